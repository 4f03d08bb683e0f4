// The strips: a text's keys in four orders, one below the other, and one pair followed through all of them.
// Tokens reach the page through textContent and fillText alone.

const HERE = 1, ELSEWHERE = 2, ALWAYS = 3;

class Strips {
  constructor(root) {
    this.root = root;
    for (const name of ['status', 'stage', 'names', 'keys', 'note', 'alt', 'live']) this[name] = root.querySelector('.sr-' + name);
    this.canvas = root.querySelector('canvas');
    this.say = speaker(this.live);
    this.cur = null;
    this.drawn = 0;
    this.listen();
  }

  update({ data, setTriggerValue }) {
    this.trigger = setTriggerValue;
    const { head, planes } = unpack(data);
    if (head.signature === this.signature) return;
    if (this.head?.content !== head.content) this.cur = null;
    this.signature = head.signature;
    this.head = head;
    this.text = head.words;
    this.buckets = new Int32Array(planes.buckets.buffer);
    this.order = new Int32Array(planes.order.buffer);
    this.found = planes.found;
    this.exact = new Float32Array(planes.exact.buffer);
    this.rank = new Int32Array(head.n);
    this.order.forEach((token, at) => { this.rank[token] = at; });
    dress(this.root, head.theme);
    this.stage.setAttribute('aria-label', this.text.label);
    this.alt.textContent = head.alt;
    this.note.textContent = '';
    this.names.replaceChildren(...head.strips.map(strip => {
      const name = element('div', 'sr-name');
      name.append(element('b', '', strip.name), element('span', '', strip.hint ? ' \u00B7 ' + strip.hint : ''));
      return name;
    }));
    this.keys.replaceChildren(...head.legend.map(([kind, words]) => {
      const key = element('span', 'sr-key');
      key.append(element('i', 'sr-' + kind), element('span', '', words));
      return key;
    }));
    this.layout();
  }

  get zoom() { return parseFloat(this.head.theme['--la-zoom']) || 1; }

  // Strip k's token at a place: its own in the text's order, the sorted one where the strip is sorted.
  at(k, place) { return this.head.strips[k].sorted ? this.order[place] : place; }

  placeOf(k, token) { return this.head.strips[k].sorted ? this.rank[token] : token; }

  x(place) { return (place + 0.5) * this.width / this.head.n; }

  top(k) { return k * this.pitch + this.label; }

  layout() {
    if (!this.head || !this.root.clientWidth) return;
    const zoom = this.zoom, count = this.head.strips.length;
    this.width = this.stage.clientWidth;
    this.label = Math.round(18 * zoom);
    this.tall = Math.round(26 * zoom);
    this.pitch = this.label + this.tall + Math.round(this.head.gap * zoom);
    this.pen = fit(this.canvas, this.width, this.top(count - 1) + this.tall + 4);
    [...this.names.children].forEach((name, k) => { name.style.top = this.top(k) - this.label + 'px'; });
    this.backdrop();
    const share = this.head.n / (this.width * (window.devicePixelRatio || 1));
    this.note.textContent = share > 1 ? fill(this.text.note_dots, { count: Math.ceil(share) }) : '';
    this.point();
    this.root.dataset.drawn = String(++this.drawn);
  }

  // The strips themselves, drawn once; lines go over a copy of them.
  backdrop() {
    const { head, width } = this, ground = document.createElement('canvas'), each = width / head.n;
    const pen = fit(ground, width, this.canvas.height / (window.devicePixelRatio || 1));
    const cells = Math.min(head.n, this.canvas.width);
    head.strips.forEach((strip, k) => {
      const top = this.top(k);
      for (let i = 0; i < cells; i++) {
        const place = Math.floor(i * head.n / cells), left = i * width / cells, wide = width / cells;
        let token = this.at(k, place);
        if (strip.lit === 'found') {
          // Under one dot a find outranks what was never looked at.
          const last = Math.max(place + 1, Math.floor((i + 1) * head.n / cells));
          for (let j = place; j < last; j++) if (this.finds(this.at(k, j)) > this.finds(token)) token = this.at(k, j);
        }
        this.cell(pen, strip, token, place, left, top, wide);
      }
      if (strip.sorted) this.walls(pen, top, each);
      if (strip.chunk) this.chunks(pen, strip.chunk, top, each);
    });
    this.ground = ground;
  }

  finds(token) { return { 0: 0, [ALWAYS]: 1, [ELSEWHERE]: 2, [HERE]: 3 }[this.found[token]] ?? 0; }

  cell(pen, strip, token, place, left, top, wide) {
    const { head } = this, bucket = this.buckets[token], ink = head.inks[bucket] ?? head.theme['--la-never'];
    const full = [top, this.tall], low = [top + this.tall * 0.78, this.tall * 0.22];
    let [y, h] = full, colour = ink;
    if (strip.lit === 'stretch' && !head.stretches.some(([from, to]) => place >= from && place < to)) [[y, h], colour] = [low, ink];
    if (strip.lit === 'found') {
      const found = this.found[token];
      if (found === 0) [[y, h], colour] = [low, head.theme['--la-never']];
      else if (found !== HERE) [y, h] = [top + this.tall * 0.4, this.tall * 0.6];
    }
    pen.fillStyle = colour;
    pen.fillRect(left, y, wide + 0.5, h);
  }

  // Thin walls between buckets in the sorted order.
  walls(pen, top, each) {
    pen.fillStyle = this.head.theme['--la-border'];
    for (let at = 1; at < this.head.n; at++) {
      if (this.buckets[this.order[at]] !== this.buckets[this.order[at - 1]]) pen.fillRect(at * each - 0.5, top, 1, this.tall);
    }
  }

  chunks(pen, size, top, each) {
    pen.fillStyle = this.head.theme['--la-text'];
    for (let at = size; at < this.head.n; at += size) pen.fillRect(at * each - 1, top - 4, 2, this.tall + 8);
  }

  point() {
    if (!this.ground || !this.head) return;
    const { head, pen } = this, token = this.cur ?? head.marked;
    pen.clearRect(0, 0, this.width, this.canvas.height);
    pen.drawImage(this.ground, 0, 0, this.width, this.canvas.height / (window.devicePixelRatio || 1));
    const query = head.strips.map((strip, k) => this.x(strip.sorted ? Math.min(head.place, head.n - 1) : head.query));
    this.thread(query, head.theme['--la-text'], head.strips.length);
    if (token !== null) {
      const places = head.strips.map((strip, k) => this.x(this.placeOf(k, token)));
      // A key that this round does not show the query ends where it is left behind.
      const lost = this.found[token] !== HERE, stop = head.strips.findIndex(strip => strip.lit);
      this.thread(places, head.theme['--la-mark'], head.strips.length, lost && stop >= 0 ? stop : null);
    }
    this.root.dataset.token = token ?? '';
    this.status.textContent = token === null ? this.text.hint : this.sentence(token);
  }

  thread(places, colour, count, lost = null) {
    const { pen } = this;
    pen.strokeStyle = pen.fillStyle = colour;
    for (let k = 0; k < count; k++) {
      pen.lineWidth = 2 * this.zoom;
      pen.setLineDash([]);
      pen.strokeRect(places[k] - 2.5, this.top(k) - 2, Math.max(5, this.width / this.head.n), this.tall + 4);
      if (k + 1 === count) break;
      pen.lineWidth = 1.75 * this.zoom;
      pen.setLineDash(lost !== null && k >= lost ? [4, 4] : []);
      const from = this.top(k) + this.tall + 2, to = this.top(k + 1) - 2, bend = (to - from) * 0.45;
      pen.beginPath();
      pen.moveTo(places[k], from);
      pen.bezierCurveTo(places[k], from + bend, places[k + 1], to - bend, places[k + 1], to);
      pen.stroke();
    }
    pen.setLineDash([]);
  }

  place(token) { return fill(this.text.place, { token: quoted(this.head.tokens[token]), at: token }); }

  sentence(token) {
    const { head, text } = this, said = [0, HERE, ELSEWHERE, ALWAYS].includes(this.found[token]) ? this.found[token] : 0;
    const weight = this.exact[token];
    const outcome = token > head.query && head.causal ? text.future : [text.never, text.here, text.elsewhere, text.always][said];
    return fill(text.sentence, {
      key: this.place(token), query: this.place(head.query), bucket: this.buckets[token], mine: head.query_bucket,
      rank: this.rank[token] + 1, n: head.n, outcome, weight: Number.isNaN(weight) ? '\u2013' : digits(weight),
    });
  }

  under(event) {
    const box = this.canvas.getBoundingClientRect(), { head } = this;
    const place = Math.min(head.n - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * head.n)));
    const k = Math.min(head.strips.length - 1, Math.max(0, Math.floor((event.clientY - box.top) / this.pitch)));
    return this.at(k, place);
  }

  ask(token) { this.trigger('token', { token, of: this.head.content }); }

  listen() {
    const { stage } = this;
    stage.addEventListener('pointermove', event => {
      const token = this.under(event);
      if (token === this.cur) return;
      this.cur = token;
      this.point();
    });
    stage.addEventListener('pointerleave', () => { this.cur = null; this.point(); });
    stage.addEventListener('click', event => this.ask(this.under(event)));
    stage.addEventListener('keydown', event => {
      const { n } = this.head, at = this.cur ?? this.head.marked ?? 0, far = event.shiftKey ? 10 : 1;
      if (event.key === 'ArrowRight') this.cur = Math.min(n - 1, at + far);
      else if (event.key === 'ArrowLeft') this.cur = Math.max(0, at - far);
      else if (event.key === 'Enter' && this.cur !== null) this.ask(this.cur);
      else if (event.key === 'Escape') this.cur = null;
      else return;
      event.preventDefault();
      event.stopPropagation();
      this.point();
      if (this.cur !== null) this.say(this.sentence(this.cur));
    });
    this.sizes = new ResizeObserver(() => { if (this.root.isConnected) this.layout(); else this.dispose(); });
    this.sizes.observe(this.root);
  }

  dispose() {
    this.sizes.disconnect();
    instances.delete(this.root);
  }
}

export default component => mounted(component, '.sr', Strips);
