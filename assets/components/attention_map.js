// The attention map: cells on a canvas, with a cross-hair, zoom, and maps that move together.
// Positions are tokens of the whole map throughout; a layer knows which of them its cells join.

const GUTTER = 38;

class Layer {
  constructor(head, planes) {
    this.window = head.window;
    [this.height, this.width] = head.shape;
    this.codes = planes.codes;
    this.fine = planes.fine ?? null;
  }
  at(row, col) {
    const i = row * this.width + col;
    return look(this.codes[i], this.fine && this.fine[i]);
  }
  // The cell that holds a token, and the tokens that a cell holds: cells are as equal as whole tokens allow.
  cellOf(token, axis) {
    const [start, span, count] = this.axis(axis), inside = token - start;
    return inside < 0 || inside >= span ? -1 : Math.ceil((inside + 1) * count / span) - 1;
  }
  tokensOf(cell, axis) {
    const [start, span, count] = this.axis(axis);
    return [start + Math.floor(span * cell / count), start + Math.floor(span * (cell + 1) / count)];
  }
  axis(axis) {
    const [r0, r1, c0, c1] = this.window;
    return axis === 'row' ? [r0, r1 - r0, this.height] : [c0, c1 - c0, this.width];
  }
  coarseness(axis) {
    const [, span, count] = this.axis(axis);
    return Math.ceil(span / count);
  }
  covers({ r0, r1, c0, c1 }) {
    const [a, b, c, d] = this.window;
    return r0 >= a && r1 <= b && c0 >= c && c1 <= d;
  }
  // For each of `dots` screen dots from token `from` to `to`: the first cell and the one after the last.
  spread(from, to, dots, axis) {
    const first = new Int32Array(dots), last = new Int32Array(dots), step = (to - from) / dots;
    for (let i = 0; i < dots; i++) {
      first[i] = this.cellOf(Math.floor(from + i * step + 1e-9), axis);
      const next = this.cellOf(Math.floor(from + (i + 1) * step - 1e-9), axis);
      last[i] = Math.max(first[i], next) + 1;
      // A cell that two dots share in part belongs to the first of them alone, else every bright cell would grow.
      if (i && last[i - 1] > first[i] && last[i] > last[i - 1]) first[i] = last[i - 1];
    }
    return { first, last };
  }
}

class AttentionMap {
  constructor(root) {
    this.root = root;
    this.id = Math.random().toString(36).slice(2);
    const at = name => root.querySelector('.am-' + name);
    for (const name of ['title', 'sub', 'stage', 'map', 'cross', 'rows', 'cols', 'status', 'bar', 'note', 'alt', 'live',
      'in', 'out', 'all', 'querystrip', 'keystrip', 'plot', 'queryaxis', 'keyaxis']) this[name] = at(name);
    this.say = speaker(this.live);
    this.cur = this.lock = this.base = this.detail = null;
    this.pointers = new Map();
    this.frame = this.timer = 0;
    this.drawn = 0;
    this.listen();
  }

  update({ data, setStateValue, setTriggerValue }) {
    this.setState = setStateValue;
    this.trigger = setTriggerValue;
    const { head, planes } = unpack(data);
    if (head.signature === this.signature) return;
    const before = this.head;
    this.signature = head.signature;
    this.head = head;
    this.palette = planes.palette;
    this.inks = inks(planes.palette, planes.negatives, head.scale.kind);
    const layer = new Layer(head, planes), [rows, cols] = head.full;
    const whole = layer.covers({ r0: 0, r1: rows, c0: 0, c1: cols });
    const same = before && head.content && before.content === head.content;
    this.base = whole ? layer : same ? this.base : null;
    this.detail = whole ? null : layer;
    if (!before || before.full[0] !== rows || before.full[1] !== cols) {
      const [r0, r1, c0, c1] = head.window;
      this.view = whole || before ? { r0: 0, r1: rows, c0: 0, c1: cols } : { r0, r1, c0, c1 };
      this.cur = this.lock = null;
    }
    const chosen = JSON.stringify(head.selected);
    if (chosen !== this.chosen) {
      this.chosen = chosen;
      if (head.selected) this.lock = this.cur = { r: head.selected[0], c: head.selected[1] };
    }
    this.words = head.words;
    this.dressUp();
    this.layout();
  }

  dressUp() {
    const { head, words } = this;
    dress(this.root, head.theme);
    this.title.textContent = head.title;
    this.sub.textContent = head.subtitle;
    this.queryaxis.textContent = words.axis_query;
    this.keyaxis.textContent = words.axis_key;
    this.alt.textContent = head.alt;
    this.stage.setAttribute('aria-label', fill(words.label, { title: head.title, rows: head.full[0], cols: head.full[1] }));
    this.stage.setAttribute('aria-roledescription', words.role);
    for (const [button, word] of [[this.in, words.zoom_in], [this.out, words.zoom_out], [this.all, words.zoom_all]]) {
      button.setAttribute('aria-label', word);
      button.title = word;
    }
    this.bar.hidden = !head.bar;
    if (head.bar) drawBar(this.bar, { palette: this.palette, scale: head.scale, words, kinds: head.kinds });
    for (const [strip, tokens, word] of [[this.querystrip, head.rows, words.strip_query],
      [this.keystrip, head.same ? head.rows : head.cols, words.strip_key]]) {
      strip.hidden = !head.strips || !tokens;
      strip.querySelector('b').textContent = word;
    }
  }

  tokens(axis) { return axis === 'row' || this.head.same ? this.head.rows : this.head.cols; }

  layout() {
    if (!this.head) return;
    const available = this.root.clientWidth;
    if (!available) return;
    const zoom = parseFloat(this.head.theme['--la-zoom']) || 1;
    this.gutter = Math.round(GUTTER * zoom);
    const [rows, cols] = this.head.full;
    const side = Math.max(64, Math.min(available, this.head.size) - this.gutter);
    this.w = side;
    this.h = rows === cols ? side : Math.max(96, Math.min(side, Math.round(side * rows / cols)));
    this.plot.style.gridTemplateColumns = `${this.gutter}px ${side}px`;
    this.stage.style.width = side + 'px';
    this.stage.style.height = this.h + 'px';
    this.paint();
  }

  // ------------------------------------------------------------------------------------------------ drawing

  paint() {
    const dots = window.devicePixelRatio || 1, pen = fit(this.map, this.w, this.h);
    const { width, height } = this.map, image = pen.createImageData(width, height);
    const out = new Uint32Array(image.data.buffer), { fill: colours, rank } = this.inks;
    const line = this.head.theme['--la-hatch'].match(/\w\w/g).map(x => parseInt(x, 16));
    const hatch = (255 << 24 | line[2] << 16 | line[1] << 8 | line[0]) >>> 0;
    out.fill(colours[FUTURE]);
    for (const layer of [this.base, this.detail]) {
      if (!layer) continue;
      const { r0, r1, c0, c1 } = this.view;
      const down = layer.spread(r0, r1, height, 'row'), across = layer.spread(c0, c1, width, 'col');
      for (let y = 0; y < height; y++) {
        if (down.first[y] < 0) continue;
        for (let x = 0; x < width; x++) {
          if (across.first[x] < 0) continue;
          let best = layer.at(down.first[y], across.first[x]);
          if (down.last[y] - down.first[y] > 1 || across.last[x] - across.first[x] > 1) {
            for (let r = down.first[y]; r < down.last[y]; r++) {
              for (let c = across.first[x]; c < across.last[x]; c++) {
                const code = layer.at(r, c);
                if (rank[code] > rank[best]) best = code;
              }
            }
          }
          out[y * width + x] = best === FUTURE && hatched(x, y, dots) ? hatch : colours[best];
        }
      }
    }
    pen.putImageData(image, 0, 0);
    this.axes();
    this.drawCross();
    const [rows] = this.head.full;
    this.root.dataset.drawn = String(++this.drawn);
    this.root.dataset.zoom = String(+(rows / (this.view.r1 - this.view.r0)).toFixed(2));
    this.root.dataset.view = [this.view.r0, this.view.r1, this.view.c0, this.view.c1].map(x => Math.round(x)).join(' ');
    this.stage.style.touchAction = this.zoomed() ? 'none' : 'pan-y';
    this.note.textContent = this.noteText();
  }

  axes() {
    const size = parseFloat(this.head.theme['--la-tick']), family = getComputedStyle(this.root).fontFamily;
    const { r0, r1, c0, c1 } = this.view;
    for (const [canvas, w, h, from, to, vertical] of [[this.rows, this.gutter, this.h, r0, r1, true],
      [this.cols, this.w, Math.round(size * 1.6), c0, c1, false]]) {
      const pen = fit(canvas, w, h), length = vertical ? h : w;
      pen.clearRect(0, 0, w, h);
      pen.font = `${size}px ${family}`;
      pen.fillStyle = this.head.theme['--la-muted'];
      pen.strokeStyle = this.head.theme['--la-border'];
      pen.textBaseline = 'middle';
      for (const tick of ticks(from, to, length / (vertical ? 44 : 64))) {
        const text = thousands(tick), at = (tick + 0.5 - from) / (to - from) * length;
        pen.beginPath();
        if (vertical) {
          pen.moveTo(w - 4, at);
          pen.lineTo(w - 1, at);
          pen.textAlign = 'right';
          pen.fillText(text, w - 7, Math.min(Math.max(at, size * 0.55), h - size * 0.55));
        } else {
          pen.moveTo(at, 1);
          pen.lineTo(at, 4);
          const half = pen.measureText(text).width / 2;
          pen.textAlign = 'center';
          pen.fillText(text, Math.min(Math.max(at, half), w - half), 6 + size * 0.55);
        }
        pen.stroke();
      }
    }
  }

  drawCross() {
    const pen = fit(this.cross, this.w, this.h), cell = this.current();
    pen.clearRect(0, 0, this.w, this.h);
    this.root.dataset.row = cell ? cell.row[0] : '';
    this.root.dataset.col = cell ? cell.col[0] : '';
    this.root.dataset.locked = this.lock ? 'yes' : 'no';
    this.status.textContent = cell ? this.sentence(cell) : this.words.hint;
    this.strips(cell);
    if (!cell) return;
    const { r0, r1, c0, c1 } = this.view, ky = this.h / (r1 - r0), kx = this.w / (c1 - c0);
    const x = (cell.col[0] - c0) * kx, y = (cell.row[0] - r0) * ky;
    const w = Math.max(2, (cell.col[1] - cell.col[0]) * kx), h = Math.max(2, (cell.row[1] - cell.row[0]) * ky);
    const halo = this.head.theme['--la-background'], ink = this.head.theme['--la-mark'];
    // A pale line under a strong one shows on every colour of the map; the cell itself stays uncovered.
    for (const [colour, width] of [[halo, 3.5], [ink, 1.25]]) {
      pen.strokeStyle = colour;
      pen.globalAlpha = colour === halo ? 0.75 : 1;
      pen.lineWidth = width;
      pen.setLineDash(this.lock ? [] : [6, 3]);
      pen.beginPath();
      const midX = x + w / 2, midY = y + h / 2;
      pen.moveTo(0, midY); pen.lineTo(x - 3, midY);
      pen.moveTo(x + w + 3, midY); pen.lineTo(this.w, midY);
      pen.moveTo(midX, 0); pen.lineTo(midX, y - 3);
      pen.moveTo(midX, y + h + 3); pen.lineTo(midX, this.h);
      pen.stroke();
      pen.setLineDash([]);
      pen.strokeRect(x - 2, y - 2, w + 4, h + 4);
    }
    pen.globalAlpha = 1;
  }

  strips(cell) {
    for (const [strip, axis] of [[this.querystrip, 'row'], [this.keystrip, 'col']]) {
      if (strip.hidden) continue;
      const tokens = this.tokens(axis), box = strip.querySelector('div');
      const [from, to] = cell ? cell[axis] : [Math.floor(axis === 'row' ? this.view.r0 : this.view.c0), -1];
      const start = Math.max(0, from - (cell ? 40 : 0)), stop = Math.min(tokens.length, Math.max(from, to) + 40);
      const part = document.createDocumentFragment();
      let here = null;
      for (let i = start; i < stop; i++) {
        const { blank, word } = wordOf(tokens[i], i);
        const code = cell ? this.codeAt(axis === 'row' ? i : cell.at.r, axis === 'row' ? cell.at.c : i) : null;
        if (code === FUTURE) word.className = 'la-future';
        else if (code !== null) {
          word.style.background = this.inks.css[code];
          word.style.color = this.inks.onTop[code];
        }
        if (i >= from && i < to) { word.classList.add('la-here'); here ??= word; }
        part.append(blank, word);
      }
      box.replaceChildren(part);
      if (here) box.scrollTop = here.offsetTop - (box.clientHeight - here.offsetHeight) / 2;
    }
  }

  // ------------------------------------------------------------------------------------------------ reading

  layerAt(r, c) {
    for (const layer of [this.detail, this.base]) {
      if (layer && layer.cellOf(r, 'row') >= 0 && layer.cellOf(c, 'col') >= 0) return layer;
    }
    return null;
  }

  codeAt(r, c) {
    const layer = this.layerAt(r, c);
    return layer ? layer.at(layer.cellOf(r, 'row'), layer.cellOf(c, 'col')) : null;
  }

  current() {
    const at = this.cur ?? this.lock;
    if (!at) return null;
    const layer = this.layerAt(at.r, at.c);
    if (!layer) return null;
    const r = layer.cellOf(at.r, 'row'), c = layer.cellOf(at.c, 'col'), i = r * layer.width + c;
    return { at, row: layer.tokensOf(r, 'row'), col: layer.tokensOf(c, 'col'), code: layer.codes[i],
      fine: layer.fine ? layer.fine[i] : null };
  }

  sentence({ row, col, code, fine }) {
    const { words, head } = this, name = (axis, [from, to], one, many) => {
      const tokens = this.tokens(axis), token = tokens ? quoted(tokens[from]) : '';
      return to - from === 1 ? fill(words[one], { token, at: from }).replace(/ {2,}/g, ' ')
        : fill(words[many], { from, to: to - 1 });
    };
    const pairs = (row[1] - row[0]) * (col[1] - col[0]);
    const places = { query: name('row', row, 'query', 'queries'), key: name('col', col, 'key', 'keys'), pairs };
    const text = brief(code, fine, head.scale, words);
    places.value = text;
    places.about = fine === null && ![NEVER, FUTURE].includes(code) ? words.about : '';
    let which;
    if (code === NEVER) which = 'never';
    else if (code === FUTURE) which = 'future';
    else if (head.scale.kind === 'difference') which = text === '0' ? 'same' : text[0] === '+' ? 'more' : 'less';
    else if (code === BELOW) which = 'below';
    else if (code === 0 && !fine) which = 'nothing';
    else which = pairs === 1 ? 'weight' : 'pooled_' + head.reduce;
    if (head.scale.kind === 'difference') places.value = text.replace(/^[+\u2212]/, '');
    const said = fill(words['say_' + which], places).replace(/ {2,}/g, ' ').trim();
    return said.charAt(0).toUpperCase() + said.slice(1);
  }

  noteText() {
    const { words, head } = this, layer = this.detail ?? this.base, parts = [];
    if (!layer) return '';
    const rows = layer.coarseness('row'), cols = layer.coarseness('col');
    if (rows * cols > 1) {
      const even = (layer.axis('row')[1] % layer.height) + (layer.axis('col')[1] % layer.width) === 0;
      parts.push(fill(words['note_' + head.reduce], { rows, cols, up: even ? '' : words.up_to }).replace(/ {2,}/g, ' '));
    }
    const { r0, r1, c0, c1 } = this.view;
    if ((r1 - r0) / this.map.height > rows || (c1 - c0) / this.map.width > cols) parts.push(words.note_dots);
    return parts.join(' ');
  }

  // ------------------------------------------------------------------------------------------------ moving

  zoomed() {
    const [rows] = this.head.full;
    return this.view.r1 - this.view.r0 < rows - 1e-6;
  }

  setView(view) {
    const [rows, cols] = this.head.full, wide = Math.min(cols, Math.max(Math.min(4, cols), view.c1 - view.c0));
    const tall = Math.min(rows, Math.max(Math.min(4, rows), view.r1 - view.r0));
    const r0 = Math.min(Math.max(0, view.r0), rows - tall), c0 = Math.min(Math.max(0, view.c0), cols - wide);
    this.view = { r0, r1: r0 + tall, c0, c1: c0 + wide };
    this.soon();
  }

  zoomAt(factor, x, y) {
    const { r0, r1, c0, c1 } = this.view, [rows, cols] = this.head.full;
    const least = Math.max(Math.min(4, rows) / (r1 - r0), Math.min(4, cols) / (c1 - c0));
    const k = Math.min(Math.max(1 / factor, least), Math.max(rows / (r1 - r0), cols / (c1 - c0)));
    const row = r0 + y * (r1 - r0), col = c0 + x * (c1 - c0);
    this.setView({ r0: row - y * (r1 - r0) * k, r1: row + (1 - y) * (r1 - r0) * k,
      c0: col - x * (c1 - c0) * k, c1: col + (1 - x) * (c1 - c0) * k });
    this.report();
    this.tell();
  }

  zoomButton(factor) {
    const at = this.cur ?? this.lock, { r0, r1, c0, c1 } = this.view;
    this.zoomAt(factor, at ? Math.min(1, Math.max(0, (at.c - c0) / (c1 - c0))) : 0.5,
      at ? Math.min(1, Math.max(0, (at.r - r0) / (r1 - r0))) : 0.5);
  }

  showAll() {
    const [rows, cols] = this.head.full;
    this.setView({ r0: 0, r1: rows, c0: 0, c1: cols });
    this.report();
    this.tell();
  }

  soon() {
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; if (this.root.isConnected) this.paint(); });
  }

  // Ask Python for the exact rows once the picture is coarser than the screen could show, or leaves what was sent.
  report() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (!this.root.isConnected) return;
      const { r0, r1, c0, c1 } = this.view, layer = this.detail ?? this.base;
      if (!this.zoomed()) {
        if (this.detail) this.setState('view', null);
        return;
      }
      const wanted = { r0: Math.floor(r0), r1: Math.ceil(r1), c0: Math.floor(c0), c1: Math.ceil(c1), of: this.head.full };
      const finer = layer.coarseness('row') > Math.max(1, Math.ceil((r1 - r0) / this.map.height))
        || layer.coarseness('col') > Math.max(1, Math.ceil((c1 - c0) / this.map.width));
      if (finer || (this.detail && !this.detail.covers(wanted))) this.setState('view', wanted);
    }, 250);
  }

  tell() {
    if (!this.head.link) return;
    window.dispatchEvent(new CustomEvent(LINK, { detail: { link: this.head.link, from: this.id, full: this.head.full,
      cur: this.cur, lock: this.lock, view: this.view } }));
  }

  follow({ link, from, full, cur, lock, view }) {
    if (!this.head?.link || link !== this.head.link || from === this.id || !this.view) return;
    if (full[0] !== this.head.full[0] || full[1] !== this.head.full[1]) return;
    this.cur = cur;
    this.lock = lock;
    // The text points too, and has no view of its own.
    const moved = view && Object.keys(view).some(side => view[side] !== this.view[side]);
    if (!moved) return void this.drawCross();
    this.view = { ...view };
    this.soon();
    this.report();
  }

  point(cur) {
    this.cur = cur;
    this.drawCross();
    this.tell();
  }

  // Where cells are smaller than a dot, the strongest one near the pointer is meant.
  under(event) {
    const box = this.stage.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    if (x < 0 || y < 0 || x >= box.width || y >= box.height) return null;
    const { r0, r1, c0, c1 } = this.view, tall = (r1 - r0) / this.h, wide = (c1 - c0) / this.w;
    const r = Math.floor(r0 + y * tall), c = Math.floor(c0 + x * wide);
    let best = { r, c };
    if (tall <= 1 && wide <= 1) return best;
    const [rows, cols] = this.head.full;
    for (let i = Math.max(0, Math.floor(r - tall)); i <= Math.min(rows - 1, r + tall); i++) {
      for (let j = Math.max(0, Math.floor(c - wide)); j <= Math.min(cols - 1, c + wide); j++) {
        const code = this.codeAt(i, j);
        if (code !== null && this.inks.rank[code] > this.inks.rank[this.codeAt(best.r, best.c) ?? FUTURE]) best = { r: i, c: j };
      }
    }
    return best;
  }

  hold(at) {
    if (!at) return;
    const same = this.lock && this.lock.r === at.r && this.lock.c === at.c;
    this.lock = same ? null : at;
    this.cur = same ? at : null;
    this.drawCross();
    this.tell();
    const cell = this.current();
    if (!same && cell) {
      this.trigger('clicked', { row: cell.row[0], col: cell.col[0], rows: cell.row[1] - cell.row[0], cols: cell.col[1] - cell.col[0] });
      this.say(this.words.held + ' ' + this.sentence(cell));
    } else this.say(this.words.let_go);
  }

  step(down, across) {
    const from = this.cur ?? this.lock, { r0, r1, c0, c1 } = this.view, [rows, cols] = this.head.full;
    this.lock = null;
    if (!from) this.cur = { r: Math.floor(r0), c: Math.floor(c0) };
    else {
      const layer = this.layerAt(from.r, from.c) ?? this.base ?? this.detail;
      const move = (token, by, axis, limit) => {
        const cell = layer.cellOf(token, axis), [, , count] = layer.axis(axis);
        if (cell < 0 || !by) return token;
        return Math.min(limit - 1, layer.tokensOf(Math.min(count - 1, Math.max(0, cell + by)), axis)[0]);
      };
      this.cur = { r: move(from.r, down, 'row', rows), c: move(from.c, across, 'col', cols) };
    }
    const { r, c } = this.cur, into = (at, from_, to) => at < from_ ? at - from_ : at + 1 > to ? at + 1 - to : 0;
    const dy = into(r, r0, r1), dx = into(c, c0, c1);
    if (dy || dx) { this.setView({ r0: r0 + dy, r1: r1 + dy, c0: c0 + dx, c1: c1 + dx }); this.report(); }
    this.drawCross();
    this.tell();
    const cell = this.current();
    if (cell) this.say(this.sentence(cell));
  }

  keyed(event) {
    const far = event.shiftKey ? 10 : 1, moves = { ArrowUp: [-far, 0], ArrowDown: [far, 0], ArrowLeft: [0, -far], ArrowRight: [0, far] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) this.step(...moves[event.key]);
    else if (event.key === 'Enter' || event.key === ' ') this.hold(this.cur ?? this.lock);
    else if (event.key === '+' || event.key === '=') this.zoomButton(2);
    else if (event.key === '-' || event.key === '_') this.zoomButton(0.5);
    else if (event.key === '0') this.showAll();
    else if (event.key === 'Escape') {
      if (this.lock) { this.cur = this.lock; this.lock = null; this.say(this.words.let_go); } else this.cur = null;
      this.drawCross();
      this.tell();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  listen() {
    const { stage } = this, places = () => [...this.pointers.values()];
    const pinch = () => {
      const [a, b] = places(), box = stage.getBoundingClientRect();
      return { far: Math.hypot(a.x - b.x, a.y - b.y), x: ((a.x + b.x) / 2 - box.left) / this.w, y: ((a.y + b.y) / 2 - box.top) / this.h };
    };
    stage.addEventListener('pointerdown', event => {
      if (event.button) return;
      stage.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      this.drag = { x: event.clientX, y: event.clientY, view: { ...this.view }, moved: this.pointers.size > 1 };
      if (this.pointers.size === 2) this.pinch = pinch().far;
    });
    stage.addEventListener('pointermove', event => {
      if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (this.pointers.size === 2) {
        const now = pinch();
        this.zoomAt(now.far / this.pinch, now.x, now.y);
        this.pinch = now.far;
        return;
      }
      if (this.drag) {
        const dx = event.clientX - this.drag.x, dy = event.clientY - this.drag.y, { r0, r1, c0, c1 } = this.drag.view;
        this.drag.moved ||= Math.hypot(dx, dy) > 4;
        if (this.drag.moved && this.zoomed()) {
          const down = -dy * (r1 - r0) / this.h, across = -dx * (c1 - c0) / this.w;
          this.setView({ r0: r0 + down, r1: r1 + down, c0: c0 + across, c1: c1 + across });
          this.tell();
          return;
        }
      }
      if (!this.lock) this.point(this.under(event));
    });
    const up = event => {
      const drag = this.drag;
      this.pointers.delete(event.pointerId);
      if (this.pointers.size) return;
      this.drag = null;
      if (event.type === 'pointerup' && drag && !drag.moved) this.hold(this.under(event));
      else if (drag?.moved) this.report();
    };
    stage.addEventListener('pointerup', up);
    stage.addEventListener('pointercancel', up);
    stage.addEventListener('pointerleave', () => { if (!this.lock && !this.drag && !stage.matches(':focus-visible')) this.point(null); });
    stage.addEventListener('wheel', event => {
      // Scrolling out of a map that is already whole scrolls the page: a map must not be a trap.
      if (event.deltaY > 0 && !this.zoomed()) return;
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      this.zoomAt(Math.exp(-Math.max(-200, Math.min(200, event.deltaY)) / 240),
        (event.clientX - box.left) / this.w, (event.clientY - box.top) / this.h);
    }, { passive: false });
    stage.addEventListener('keydown', event => this.keyed(event));
    this.in.addEventListener('click', () => this.zoomButton(2));
    this.out.addEventListener('click', () => this.zoomButton(0.5));
    this.all.addEventListener('click', () => this.showAll());
    for (const [strip, axis] of [[this.querystrip, 'r'], [this.keystrip, 'c']]) {
      strip.addEventListener('click', event => {
        const i = event.target.dataset.i, at = this.cur ?? this.lock;
        if (i !== undefined && at) this.hold({ ...at, [axis]: +i });
      });
    }
    this.heard = event => {
      if (this.root.isConnected) this.follow(event.detail); else this.dispose();
    };
    window.addEventListener(LINK, this.heard);
    this.sizes = new ResizeObserver(() => { if (this.root.isConnected) this.layout(); else this.dispose(); });
    this.sizes.observe(this.root);
  }

  dispose() {
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
    window.removeEventListener(LINK, this.heard);
    this.sizes.disconnect();
    instances.delete(this.root);
  }
}

export default component => mounted(component, '.am', AttentionMap);
