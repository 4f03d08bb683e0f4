// The ribbons: one query's weights along the text, a ribbon for each mechanism, and the text itself below them.

const SVG = 'http://www.w3.org/2000/svg';

class Ribbons {
  constructor(root) {
    this.root = root;
    for (const name of ['status', 'grid', 'bar', 'note', 'reading', 'caption', 'words', 'alt', 'live']) {
      this[name] = root.querySelector('.rb-' + name);
    }
    this.say = speaker(this.live);
    this.cur = this.held = this.pending = null;
    this.guesses = {};
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
    this.text = head.words;
    this.palette = planes.palette;
    this.inks = inks(planes.palette, planes.negatives, head.scale.kind);
    this.codes = planes.codes;
    this.fine = planes.fine;
    this.pending = null;
    this.guesses = head.guesses;
    if (before?.content !== head.content) {
      this.cur = this.held = null;
      this.writeText();
    }
    if (!head.rows.some(row => row.key === this.chosen)) {
      this.chosen = (head.rows.find(row => row.state === 'shown') ?? head.rows[0])?.key;
    }
    const shape = JSON.stringify([head.rows.map(({ plane, facts, ...row }) => row), head.labels, head.theme]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.build();
    }
    drawBar(this.bar, { palette: this.palette, scale: head.scale, words: this.text, kinds: head.kinds });
    this.root.classList.toggle('rb-over', head.text === 'over');
    this.reading.hidden = head.text === 'none';
    this.words.style.maxHeight = head.text_height + 'px';
    this.alt.textContent = head.alt;
    this.note.textContent = '';
    this.layout();
  }

  // ------------------------------------------------------------------------------------------------ building

  build() {
    const { head } = this;
    dress(this.root, head.theme);
    this.grid.setAttribute('aria-label', this.text.label);
    this.grid.setAttribute('aria-roledescription', this.text.role);
    this.words.setAttribute('aria-label', this.text.text_label);
    this.grid.replaceChildren();
    this.lines = new Map();
    const row = className => {
      const line = element('div', 'rb-row ' + className), name = element('div', 'rb-name');
      const strip = element('div', 'rb-strip'), facts = element('div', 'rb-facts');
      line.append(name, strip, facts);
      this.grid.append(line);
      return { line, name, strip, facts };
    };
    this.top = row('rb-top');
    this.top.flags = element('div', 'rb-flags');
    this.top.query = element('span', 'rb-flag rb-query');
    this.top.active = element('span', 'rb-flag rb-active');
    this.top.flags.append(this.top.query, this.top.active);
    this.top.canvas = element('canvas');
    this.top.strip.append(this.top.flags, this.top.canvas, element('i', 'rb-mark'));
    this.top.name.append(element('span', 'rb-title', this.text.the_text));
    this.top.facts.append(...['', ...head.labels].map(label => element('span', 'rb-value', label)));
    for (const data of head.rows) {
      const parts = row('rb-' + data.state);
      parts.line.dataset.key = data.key;
      this.nameTag(parts.name, data);
      if (data.state === 'shown') {
        parts.canvas = element('canvas');
        parts.strip.append(parts.canvas, element('i', 'rb-mark'));
      } else if (data.state === 'refused') parts.strip.append(element('p', 'rb-refusal', data.refusal));
      else this.question(parts.strip, data);
      parts.values = ['', ...head.labels].map((label, i) => {
        const fact = element('span', 'rb-value');
        fact.append(element('span', 'rb-label', i ? label : ''), element('b', ''));
        parts.facts.append(fact);
        return fact;
      });
      this.lines.set(data.key, parts);
    }
    this.axis = row('rb-axis');
    this.axis.canvas = element('canvas');
    this.axis.strip.append(this.axis.canvas);
    this.axis.name.append(element('span', 'rb-unit', this.text.axis));
  }

  nameTag(box, data) {
    const button = element('button', 'rb-pick'), icon = document.createElementNS(SVG, 'svg');
    const shape = document.createElementNS(SVG, 'path');
    button.type = 'button';
    button.tabIndex = -1;
    icon.setAttribute('viewBox', '-1.25 -1.25 2.5 2.5');
    icon.setAttribute('aria-hidden', 'true');
    shape.setAttribute('d', data.symbol);
    shape.setAttribute('fill', data.open ? 'none' : data.colour);
    shape.setAttribute('stroke', data.colour);
    shape.setAttribute('stroke-width', data.open ? '0.34' : '0.1');
    icon.append(shape);
    button.append(icon, element('span', 'rb-title', data.title));
    box.append(button);
    for (const badge of data.badges) box.append(element('span', 'rb-badge', badge));
  }

  question(box, data) {
    const frame = element('div', 'rb-question');
    frame.append(element('span', 'rb-mystery', '?'));
    (this.head.predict ?? []).forEach((word, i) => {
      const button = element('button', 'rb-guess', word);
      button.type = 'button';
      button.setAttribute('aria-label', `${data.title}: ${word}`);
      button.dataset.guess = i === 0 ? 'yes' : 'no';
      frame.append(button);
    });
    box.append(frame);
  }

  writeText() {
    const part = document.createDocumentFragment();
    this.spans = this.head.tokens.map((token, i) => {
      const { blank, word } = wordOf(token, i);
      part.append(blank, word);
      return word;
    });
    this.words.replaceChildren(part);
  }

  // ------------------------------------------------------------------------------------------------ drawing

  layout() {
    if (!this.head || !this.root.clientWidth) return;
    const zoom = parseFloat(this.head.theme['--la-zoom']) || 1;
    this.columns(zoom);
    this.height = Math.round(this.head.height * zoom);
    this.width = this.top.strip.clientWidth;
    if (this.width < 1) return;
    this.drawText();
    this.drawAxis();
    for (const row of this.head.rows) {
      const parts = this.lines.get(row.key);
      if (row.state === 'shown') this.drawRibbon(parts.canvas, row);
      parts.values.forEach((fact, i) => { if (i) fact.lastChild.textContent = row.facts[i - 1] ?? ''; });
      for (const button of parts.strip.querySelectorAll('.rb-guess')) {
        button.setAttribute('aria-pressed', String(this.guesses[row.key] === (button.dataset.guess === 'yes')));
      }
    }
    const share = this.head.n / (this.width * (window.devicePixelRatio || 1));
    this.note.textContent = share > 1 ? fill(this.text.note_dots, { count: Math.ceil(share) }) : '';
    this.tint();
    this.point();
    this.root.dataset.drawn = String(++this.drawn);
  }

  // Columns of numbers as wide as what stands in them, the same on every row; a long one wraps.
  columns(zoom) {
    const pen = this.axis.canvas.getContext('2d'), family = getComputedStyle(this.root).fontFamily, { head } = this;
    const wide = (text, role) => {
      pen.font = `${head.theme[role]} ${family}`;
      return pen.measureText(text).width;
    };
    const widths = head.labels.map((label, i) => Math.min(112 * zoom, Math.max(
      ...label.split(/\s+/).map(word => wide(word, '--la-tick')), ...head.rows.map(row => wide(row.facts[i], '--la-label')))));
    this.root.style.setProperty('--rb-columns', [88 * zoom, ...widths.map(Math.ceil)].map(w => w + 'px').join(' '));
  }

  // Tokens [first, last) that dot i of `dots` shows; every token belongs to one dot where dots are fewer.
  span(i, dots) {
    const { n } = this.head, first = Math.floor(i * n / dots);
    return [first, Math.max(first + 1, Math.floor((i + 1) * n / dots))];
  }

  lookAt(row, token) {
    const i = row.plane * this.head.n + token;
    return look(this.codes[i], this.fine[i]);
  }

  drawRibbon(canvas, row) {
    const pen = fit(canvas, this.width, this.height), dots = canvas.width, scale = this.width / dots;
    const { rank, css } = this.inks;
    const hatch = hatchPattern(pen, this.head.theme['--la-background'], this.head.theme['--la-hatch']);
    pen.clearRect(0, 0, this.width, this.height);
    const shown = i => {
      const [first, last] = this.span(i, dots);
      let best = this.lookAt(row, first);
      for (let j = first + 1; j < last; j++) if (rank[this.lookAt(row, j)] > rank[best]) best = this.lookAt(row, j);
      return best;
    };
    for (let i = 0, from = 0, code = shown(0); i < dots; i++) {
      const next = i + 1 < dots ? shown(i + 1) : -1;
      if (next === code) continue;
      pen.fillStyle = code === FUTURE ? hatch : css[code];
      pen.fillRect(from * scale, 0, (i + 1 - from) * scale, this.height);
      from = i + 1;
      code = next;
    }
  }

  // The text as a strip: whole words where they fit, else a bar for each token, as tall as the token is long.
  drawText() {
    const pen = fit(this.top.canvas, this.width, this.height), { n, tokens, theme } = this.head, each = this.width / n;
    const size = parseFloat(theme['--la-tick']);
    pen.clearRect(0, 0, this.width, this.height);
    pen.font = `${size}px ${getComputedStyle(this.root).fontFamily}`;
    pen.textBaseline = 'middle';
    pen.fillStyle = theme['--la-muted'];
    const visible = tokens.map(token => Array.from(token.trim()).length);
    if (each >= 3.5 * size) {
      pen.textAlign = 'center';
      pen.fillStyle = theme['--la-text'];
      tokens.forEach((token, i) => {
        const short = visible[i] > 12 ? Array.from(token.trim()).slice(0, 11).join('') + '\u2026' : token.trim();
        pen.fillText(short, (i + 0.5) * each, this.height / 2, each - 4);
      });
      return;
    }
    const dots = Math.min(Math.round(this.width), n), step = this.width / dots;
    for (let i = 0; i < dots; i++) {
      const [first, last] = this.span(i, dots), length = Math.max(...visible.slice(first, last));
      const tall = length ? Math.max(3, Math.min(1, length / 9) * this.height) : 0;
      pen.fillRect(i * step, this.height - tall, Math.max(0.75, step - 0.5), tall);
    }
  }

  drawAxis() {
    const { n, theme } = this.head, size = parseFloat(theme['--la-tick']), tall = Math.round(size * 1.6);
    const pen = fit(this.axis.canvas, this.width, tall);
    pen.clearRect(0, 0, this.width, tall);
    pen.font = `${size}px ${getComputedStyle(this.root).fontFamily}`;
    pen.fillStyle = theme['--la-muted'];
    pen.strokeStyle = theme['--la-border'];
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    for (const tick of ticks(0, n, this.width / 64)) {
      const at = (tick + 0.5) * this.width / n, text = thousands(tick), half = pen.measureText(text).width / 2;
      pen.beginPath();
      pen.moveTo(at, 0);
      pen.lineTo(at, 4);
      pen.stroke();
      pen.fillText(text, Math.min(Math.max(at, half), this.width - half), 5 + size * 0.6);
    }
  }

  tint() {
    const row = this.head.rows.find(row => row.key === this.chosen), { css, onTop } = this.inks;
    for (const [key, parts] of this.lines) {
      parts.line.classList.toggle('rb-chosen', key === this.chosen);
      parts.name.querySelector('button').setAttribute('aria-pressed', String(key === this.chosen));
    }
    if (this.head.text === 'none') return;
    const shown = row?.state === 'shown';
    const query = this.place(this.head.query);
    this.caption.textContent = shown ? fill(this.text.caption, { title: row.title, query }) : fill(this.text.caption_plain, { query });
    this.spans.forEach((word, i) => {
      const code = shown ? this.lookAt(row, i) : i > this.head.query && this.head.causal ? FUTURE : null;
      const plain = code === null || code === FUTURE;
      word.className = code === FUTURE ? 'la-future' : '';
      word.style.background = plain ? '' : css[code];
      word.style.color = plain ? '' : onTop[code];
    });
    this.spans[this.head.query]?.classList.add('rb-asks');
    this.marked = null;
  }

  active() { return this.cur ?? this.held ?? this.head.marked; }

  place(token) { return fill(this.text.place, { token: quoted(this.head.tokens[token]), at: token }); }

  readOut(row, token) {
    if (row.state !== 'shown' || token === null) return row.state === 'hidden' ? '?' : '';
    const i = row.plane * this.head.n + token;
    return brief(this.codes[i], this.fine[i], this.head.scale, this.text);
  }

  // Everything that follows the marked token: the marks on all ribbons, the read-outs, the flags, the word in the text.
  point({ scroll = false } = {}) {
    const token = this.active(), { n } = this.head, each = this.width / n;
    this.root.dataset.token = token ?? '';
    this.root.dataset.chosen = this.chosen ?? '';
    this.root.style.setProperty('--rb-mark', token === null ? 'none' : 'block');
    if (token !== null) {
      this.root.style.setProperty('--rb-x', `${token * each - 2.5}px`);
      this.root.style.setProperty('--rb-w', `${each + 5}px`);
    }
    for (const row of this.head.rows) {
      const fact = this.lines.get(row.key).values[0];
      fact.firstChild.textContent = token === null ? '' : fill(this.text.weight_on, { token: quoted(this.head.tokens[token]) });
      fact.lastChild.textContent = this.readOut(row, token);
    }
    this.top.facts.firstChild.textContent = token === null ? '' : fill(this.text.weight_on, { token: this.place(token) });
    this.flags(token);
    if (this.marked !== token) {
      this.spans[this.marked]?.classList.remove('la-here');
      this.spans[token]?.classList.add('la-here');
      this.marked = token;
    }
    if (scroll && token !== null) {
      const word = this.spans[token], box = this.words;
      box.scrollTop = word.offsetTop - (box.clientHeight - word.offsetHeight) / 2;
    }
    this.status.textContent = token === null ? this.text.hint : this.sentence(token);
  }

  sentence(token) {
    const row = this.head.rows.find(row => row.key === this.chosen), place = this.place(token);
    if (!row || row.state !== 'shown') return place;
    const code = this.codes[row.plane * this.head.n + token];
    const empty = code === 0 && !this.fine[row.plane * this.head.n + token];
    const which = code === NEVER ? 'say_never' : code === FUTURE ? 'say_future' : empty ? 'say_nothing' : 'say_weight';
    return fill(this.text[which], { place, title: row.title, value: this.readOut(row, token), query: this.place(this.head.query) });
  }

  flags(token) {
    const { query, n } = this.head, { query: asks, active } = this.top, each = this.width / n;
    asks.textContent = fill(this.text.flag_query, { place: this.place(this.pending ?? query) });
    active.textContent = token === null || token === query ? '' : this.place(token);
    const spread = flag => {
      const at = (flag === asks ? (this.pending ?? query) + 0.5 : token + 0.5) * each, wide = flag.offsetWidth;
      return { left: Math.min(Math.max(0, at - wide / 2), this.width - wide), wide };
    };
    const own = spread(asks);
    asks.style.left = own.left + 'px';
    active.hidden = !active.textContent;
    if (active.hidden) return;
    const other = spread(active);
    // The two flags never lie on each other: the moving one gives way to whichever side has room.
    if (other.left + other.wide + 8 > own.left && other.left < own.left + own.wide + 8) {
      other.left = own.left - other.wide - 8 >= 0 ? own.left - other.wide - 8 : own.left + own.wide + 8;
    }
    active.style.left = other.left + 'px';
  }

  // ------------------------------------------------------------------------------------------------ acting

  under(event, strip, row) {
    const box = strip.getBoundingClientRect(), { n } = this.head, each = box.width / n;
    const at = Math.min(n - 1, Math.max(0, Math.floor((event.clientX - box.left) / each)));
    if (each >= 4 || row?.state !== 'shown') return at;
    // A token thinner than the pointer is hard to hit: the strongest within reach is meant.
    const reach = Math.ceil((event.pointerType === 'touch' ? 8 : 2) / each), { rank } = this.inks;
    let best = at;
    for (let j = Math.max(0, at - reach); j <= Math.min(n - 1, at + reach); j++) {
      if (rank[this.lookAt(row, j)] > rank[this.lookAt(row, best)]) best = j;
    }
    return best;
  }

  ask(row, token) {
    this.held = token;
    this.cur = null;
    this.point({ scroll: true });
    this.say(this.sentence(token));
    if (row?.state === 'shown') this.trigger('clicked', { mechanism: row.key, key: token });
  }

  choose(token) {
    this.pending = token;
    this.root.querySelector('.rb-asks')?.classList.remove('rb-asks');
    this.spans[token].classList.add('rb-asks');
    this.point();
    this.say(fill(this.text.chosen, { place: this.place(token) }));
    this.setState('query', { token, of: this.head.content, nth: Date.now() });
  }

  pick(key) {
    this.chosen = key;
    this.tint();
    this.point();
  }

  keyed(event, inText) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.tagName === 'BUTTON' && ['Enter', ' '].includes(event.key)) return;
    const { n, rows } = this.head, far = event.shiftKey ? 10 : 1, token = this.active() ?? this.head.query;
    const row = rows.findIndex(row => row.key === this.chosen);
    const to = { ArrowLeft: token - far, ArrowRight: token + far, Home: 0, End: n - 1 }[event.key];
    if (to !== undefined) {
      this.held = Math.min(n - 1, Math.max(0, to));
      this.cur = null;
      this.point({ scroll: true });
    } else if (event.key === 'ArrowUp' || event.key === 'ArrowDown') {
      this.pick(rows[Math.min(rows.length - 1, Math.max(0, row + (event.key === 'ArrowUp' ? -1 : 1)))].key);
    } else if (event.key === 'Enter') {
      if (inText) this.choose(token); else this.ask(rows[row], token);
    } else if (event.key === 'Escape') {
      this.cur = this.held = null;
      this.point();
    } else return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key !== 'Enter' && this.active() !== null) this.say(this.sentence(this.active()));
  }

  listen() {
    const { grid, words } = this;
    const found = event => {
      const strip = event.target.closest('.rb-strip'), line = event.target.closest('.rb-row');
      if (!strip || line.classList.contains('rb-axis') || event.target.closest('button')) return null;
      const row = this.head.rows.find(row => row.key === line.dataset.key);
      return { row, token: this.under(event, strip, row) };
    };
    grid.addEventListener('pointermove', event => {
      const at = found(event);
      if (!at || this.cur === at.token) return;
      this.cur = at.token;
      this.point({ scroll: true });
    });
    const leave = () => { if (this.head && this.cur !== null) { this.cur = null; this.point(); } };
    grid.addEventListener('pointerleave', leave);
    words.addEventListener('pointerleave', leave);
    grid.addEventListener('click', event => {
      const button = event.target.closest('button'), line = event.target.closest('.rb-row');
      if (button?.classList.contains('rb-guess')) {
        this.guesses = { ...this.guesses, [line.dataset.key]: button.dataset.guess === 'yes' };
        this.layout();
        this.setState('guesses', this.guesses);
        return;
      }
      if (button) return void this.pick(line.dataset.key);
      const at = found(event);
      if (!at) return;
      if (at.row) this.pick(at.row.key);
      this.ask(at.row, at.token);
    });
    words.addEventListener('pointerover', event => {
      const i = event.target.dataset.i;
      if (i === undefined) return;
      this.cur = +i;
      this.point();
    });
    words.addEventListener('click', event => { if (event.target.dataset.i !== undefined) this.choose(+event.target.dataset.i); });
    grid.addEventListener('keydown', event => this.keyed(event, false));
    words.addEventListener('keydown', event => this.keyed(event, true));
    this.sizes = new ResizeObserver(() => { if (this.root.isConnected) this.layout(); else this.dispose(); });
    this.sizes.observe(this.root);
  }

  dispose() {
    this.sizes.disconnect();
    instances.delete(this.root);
  }
}

export default component => mounted(component, '.rb', Ribbons);
