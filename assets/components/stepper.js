// The stepper: previous, next, a scrubber with labelled stops, arrow keys. It never moves by itself.

class Stepper {
  constructor(root) {
    this.root = root;
    for (const name of ['back', 'forth', 'range', 'stops', 'now']) this[name] = root.querySelector('.sp-' + name);
    this.back.addEventListener('click', () => this.go(this.at - 1));
    this.forth.addEventListener('click', () => this.go(this.at + 1));
    this.range.addEventListener('input', () => this.show(+this.range.value));
    this.range.addEventListener('change', () => this.go(+this.range.value));
    // The scrubber has its own arrow keys; everywhere else in the stepper they are ours.
    root.addEventListener('keydown', event => {
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      const at = event.key === 'Home' ? 0 : event.key === 'End' ? this.stopsNamed.length - 1 : this.at + (step ?? NaN);
      if (Number.isNaN(at)) return;
      event.preventDefault();
      event.stopPropagation();
      this.go(at);
    });
  }

  update({ data, setStateValue }) {
    this.setState = setStateValue;
    const { head } = unpack(data);
    if (head.signature === this.signature) return;
    this.signature = head.signature;
    this.stopsNamed = head.stops;
    this.words = head.words;
    dress(this.root, head.theme);
    this.root.setAttribute('aria-label', head.words.label);
    this.back.textContent = '\u2190 ' + head.words.back;
    this.forth.textContent = head.words.forth + ' \u2192';
    this.range.max = String(head.stops.length - 1);
    this.range.setAttribute('aria-label', head.words.label);
    this.root.classList.toggle('sp-many', head.stops.length > 9);
    this.stops.replaceChildren(...head.stops.map((name, i) => {
      const stop = element('button', '', name);
      stop.type = 'button';
      stop.tabIndex = -1;
      stop.addEventListener('click', () => this.go(i));
      return stop;
    }));
    this.show(head.at);
  }

  show(at) {
    this.at = at;
    this.range.value = String(at);
    this.range.setAttribute('aria-valuetext', this.stopsNamed[at]);
    const held = this.root.getRootNode().activeElement;
    this.back.disabled = at === 0;
    this.forth.disabled = at === this.stopsNamed.length - 1;
    // At either end a button goes out under the finger; the arrow keys must not go out with it.
    if (held?.disabled) this.range.focus();
    this.now.replaceChildren(element('span', '', fill(this.words.now, { at: at + 1, of: this.stopsNamed.length }) + ' '),
      element('b', '', this.stopsNamed[at]));
    Array.from(this.stops.children).forEach((stop, i) => {
      if (i === at) stop.setAttribute('aria-current', 'step'); else stop.removeAttribute('aria-current');
    });
  }

  go(at) {
    if (at < 0 || at >= this.stopsNamed.length) return;
    this.show(at);
    this.setState('at', at);
  }
}

export default component => mounted(component, '.sp', Stepper);
