// The text as a picture: every token coloured by its group or its weight, wrapping as text does, cuts as bars between words.
// Tokens, group names and notes reach the page through textContent alone.

let counter = 0;

class TokenText {
  constructor(root) {
    this.root = root;
    this.id = 'text' + ++counter;
    for (const name of ['status', 'legend', 'words', 'bar', 'note', 'alt', 'live']) this[name] = root.querySelector('.tt-' + name);
    this.say = speaker(this.live);
    this.cur = this.cut = this.only = null;
    this.listen();
  }

  update({ data, setTriggerValue }) {
    this.trigger = setTriggerValue;
    const { head, planes } = unpack(data);
    if (head.signature === this.signature) return;
    const before = this.head;
    this.signature = head.signature;
    const asked = before?.selected !== head.selected || before?.content !== head.content;
    this.head = head;
    this.text = head.words;
    this.groups = planes.groups ? new Int32Array(planes.groups.buffer) : null;
    this.codes = planes.codes ?? null;
    this.fine = planes.fine ?? null;
    this.palette = planes.palette;
    this.inks = inks(planes.palette, planes.negatives, head.scale.kind);
    dress(this.root, head.theme);
    if (before?.content !== head.content || JSON.stringify(before.cuts) !== JSON.stringify(head.cuts)) {
      this.cur = this.cut = null;
      this.write();
    }
    this.only = null;
    this.words.style.maxHeight = head.height + 'px';
    this.words.setAttribute('aria-label', this.text.label);
    this.alt.textContent = head.alt;
    this.note.textContent = head.caption;
    this.legendOf();
    this.bar.hidden = this.codes === null;
    if (this.codes !== null) drawBar(this.bar, { palette: this.palette, scale: head.scale, words: this.text, kinds: head.kinds });
    this.paint();
    this.point();
    if (asked) this.reveal();
    this.root.dataset.drawn = String((+this.root.dataset.drawn || 0) + 1);
  }

  write() {
    const part = document.createDocumentFragment(), cuts = new Map(this.head.cuts.map(cut => [cut[0], cut]));
    this.bars = [];
    this.spans = this.head.tokens.map((token, i) => {
      const found = cuts.get(i), { blank, word } = wordOf(token, i);
      if (found) {
        const bar = element('i', 'tt-cut');
        bar.dataset.cut = this.bars.length;
        bar.style.width = (2 + 18 * found[1]) + 'px';
        bar.tabIndex = 0;
        bar.setAttribute('role', 'img');
        bar.setAttribute('aria-label', found[2]);
        this.bars.push({ bar, text: found[2] });
        part.append(bar);
      }
      part.append(blank, word);
      return word;
    });
    this.words.replaceChildren(part);
  }

  legendOf() {
    this.legend.replaceChildren(...this.head.legend.map(([group, name, colour]) => {
      const key = element('button', 'tt-group'), swatch = element('i');
      key.type = 'button';
      key.dataset.group = group;
      key.setAttribute('aria-pressed', 'false');
      swatch.style.background = colour;
      key.append(swatch, element('span', '', name));
      return key;
    }));
  }

  // A move of a dial leaves most words as they were: only what changes is written, or the browser would lay out all anew.
  paint() {
    const { head } = this;
    this.spans.forEach((span, i) => {
      const group = this.groups ? this.groups[i] : -1, style = head.inks[String(group)];
      const marks = [];
      let [ground, ink] = ['', ''];
      if (this.codes !== null) {
        const code = this.codes[i];
        if (code === NEVER) marks.push('tt-never');
        else if (code === FUTURE) marks.push('la-future');
        else {
          const found = look(code, this.fine ? this.fine[i] : null);
          [ground, ink] = [this.inks.css[found], this.inks.onTop[found]];
        }
      } else if (style) [ground, ink] = style;
      if (head.future !== null && i > head.future) marks.push('la-future');
      if (i === head.selected) marks.push('tt-asks');
      if (this.only !== null && group !== this.only) marks.push('tt-dim');
      const worn = [...marks, ground, ink].join();
      if (span.worn === worn) return;
      span.worn = worn;
      span.className = marks.join(' ');
      span.style.background = ground;
      span.style.color = ink;
    });
  }

  // The word that asks comes into sight inside the text's own box; the page stays where it is.
  reveal() {
    const span = this.spans[this.head.selected];
    if (!span) return;
    const low = span.offsetTop, room = this.words.clientHeight;
    this.words.scrollTop = Math.max(0, low - room + 2 * span.offsetHeight);
  }

  sentence(i) {
    const { head } = this, parts = [fill(this.text.place, { token: quoted(head.tokens[i]), at: i })];
    const group = this.groups ? head.names[String(this.groups[i])] : undefined;
    if (group) parts.push(group);
    if (this.codes !== null) parts.push(fill(this.text.weight, { value: brief(this.codes[i], this.fine ? this.fine[i] : null, head.scale, this.text) }));
    if (head.notes && head.notes[i]) parts.push(head.notes[i]);
    return parts.join(' \u00B7 ');
  }

  point({ scroll = false } = {}) {
    this.spans.forEach((span, i) => span.classList.toggle('la-here', i === this.cur || i === this.other));
    this.bars.forEach(({ bar }, i) => bar.classList.toggle('la-here', i === this.cut));
    const text = this.cut !== null ? this.bars[this.cut].text : this.cur !== null ? this.sentence(this.cur) : this.text.hint;
    this.status.textContent = text;
    if (scroll && this.cur !== null) this.spans[this.cur].scrollIntoView({ block: 'nearest' });
  }

  tell() {
    const { head } = this, n = head.tokens.length;
    if (!head.link) return;
    const row = head.selected ?? this.cur;
    window.dispatchEvent(new CustomEvent(LINK, { detail: { link: head.link, from: this.id, full: [n, n],
      cur: this.cur === null ? null : { r: Math.max(row, 0), c: this.cur }, lock: null, view: null } }));
  }

  follow({ link, from, full, cur, lock }) {
    if (!this.head?.link || link !== this.head.link || from === this.id || full[1] !== this.head.tokens.length) return;
    const at = lock ?? cur;
    this.cur = at ? at.c : null;
    this.other = at ? at.r : null;
    this.cut = null;
    this.point();
  }

  move(i) {
    this.cur = i;
    this.other = this.cut = null;
    this.point({ scroll: true });
    this.tell();
  }

  listen() {
    const { words } = this;
    words.addEventListener('pointerover', event => {
      const { i, cut } = event.target.dataset;
      if (cut !== undefined) { this.cut = +cut; this.cur = null; this.point(); return; }
      if (i === undefined || +i === this.cur) return;
      this.cut = this.other = null;
      this.cur = +i;
      this.point();
      this.tell();
    });
    words.addEventListener('pointerleave', () => {
      if (this.cur === null && this.cut === null) return;
      this.cur = this.cut = this.other = null;
      this.point();
      this.tell();
    });
    words.addEventListener('focusin', event => {
      if (event.target.dataset.cut === undefined) return;
      this.cut = +event.target.dataset.cut;
      this.point();
    });
    words.addEventListener('click', event => {
      if (event.target.dataset.i !== undefined) this.trigger('token', { token: +event.target.dataset.i, of: this.head.content });
    });
    words.addEventListener('keydown', event => {
      const n = this.spans.length, at = this.cur ?? this.head.selected ?? 0;
      if (event.key === 'ArrowRight') this.move(Math.min(n - 1, at + 1));
      else if (event.key === 'ArrowLeft') this.move(Math.max(0, at - 1));
      else if (event.key === 'Enter' && this.cur !== null) this.trigger('token', { token: this.cur, of: this.head.content });
      else if (event.key === 'Escape') { this.cur = this.cut = null; this.point(); this.tell(); }
      else return;
      event.preventDefault();
      event.stopPropagation();
      if (this.cur !== null) this.say(this.sentence(this.cur));
    });
    this.legend.addEventListener('click', event => {
      const key = event.target.closest('button');
      if (!key) return;
      const group = +key.dataset.group;
      this.only = this.only === group ? null : group;
      for (const other of this.legend.children) other.setAttribute('aria-pressed', String(+other.dataset.group === this.only));
      this.paint();
      this.point();
    });
    this.heard = event => { if (this.root.isConnected) this.follow(event.detail); else window.removeEventListener(LINK, this.heard); };
    window.addEventListener(LINK, this.heard);
  }
}

export default component => mounted(component, '.tt', TokenText);
