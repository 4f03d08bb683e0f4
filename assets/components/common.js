// What the browser parts share: reading the bytes, colours, words. Prepended to each of them.
// Tokens are what a visitor typed: they reach the page through textContent and fillText alone, never as markup.

// Maps and texts with one `link` share what is pointed at.
const LINK = 'longattn:link';

const BELOW = 253, FUTURE = 254, NEVER = 255, TOP_LEVEL = 252, FINEST = 253 * 256 - 1;

function unpack(data) {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  const planes = {};
  let at = 4 + size;
  for (const [name, length] of head.planes) {
    planes[name] = bytes.slice(at, at + length);
    at += length;
  }
  return { head, planes };
}

// What a code looks like, and which of several codes under one screen dot is shown: a value always outranks
// "never looked at", and among values the largest wins (among differences, the largest by size).
// The size of a weight below zero is in its second byte: `look` turns both bytes into one index, 256 and up for those.
function inks(palette, negatives, kind) {
  const fill = new Uint32Array(512), rank = new Uint16Array(512), css = [], onTop = [];
  for (let i = 0; i < 512; i++) {
    const at = 3 * (i & 255), [r, g, b] = (i < 256 ? palette : negatives).subarray(at, at + 3);
    fill[i] = (255 << 24 | b << 16 | g << 8 | r) >>> 0;
    css.push(`rgb(${r},${g},${b})`);
    const light = [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    onTop.push(0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2] > 0.179 ? '#000000' : '#FFFFFF');
    rank[i] = kind === 'difference' ? 2 + 2 * Math.abs(i - TOP_LEVEL / 2) : i < 256 ? 2 + 2 * i : 3 + 2 * (i & 255);
  }
  rank[FUTURE] = 0;
  rank[NEVER] = 1;
  if (kind !== 'difference') rank[BELOW] = 3;
  return { fill, rank, css, onTop };
}

const look = (code, fine) => code === BELOW && fine !== null ? 256 + fine : code;

function valueAt(share, scale) {
  if (scale.kind === 'linear') return share * scale.top;
  if (scale.kind === 'log') return scale.floor * (scale.top / scale.floor) ** share;
  return Math.sign(2 * share - 1) * scale.floor * Math.expm1(Math.abs(2 * share - 1) * Math.log1p(scale.top / scale.floor));
}

function digits(value) {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  return size >= 1e-5 || size === 0 ? String(+value.toPrecision(3)) : value.toExponential(1);
}

// A template's {places} filled in one pass, so that a token with braces in it is not filled again.
const fill = (template, values) => template.replace(/\{(\w+)\}/g, (all, name) => name in values ? values[name] : all);

// Short form of a value, for a column of numbers. `fine` is null where only the level was sent.
function brief(code, fine, scale, words) {
  if (code === NEVER) return words.never_short;
  if (code === FUTURE) return words.future_short;
  if (code === BELOW && scale.kind !== 'difference') {
    return fine === null ? words.below_short : '\u2212' + digits(valueAt(fine / 255, scale));
  }
  const step = fine === null ? (code + 0.5) / 253 : (code * 256 + fine) / FINEST;
  if (scale.kind === 'difference') {
    if (code === TOP_LEVEL / 2) return '0';
    const value = valueAt(step, scale);
    return (value < 0 ? '\u2212' : '+') + digits(fine === null ? +Math.abs(value).toPrecision(2) : Math.abs(value));
  }
  if (code === 0 && !fine) return scale.kind === 'log' ? `< ${digits(scale.floor)}` : '0';
  return digits(fine === null ? +valueAt(step, scale).toPrecision(2) : valueAt(step, scale));
}

// One token as it stands in a sentence: visible, short, and unable to turn the sentence's direction around.
function quoted(token) {
  if (token === undefined || token === null) return '';
  let text = token.replace(/\r?\n/g, '\u21B5').replace(/\t/g, '\u21E5').replace(/[\u0000-\u001F\u007F]/g, '\u25A1');
  text = text.trim() === '' ? text.replace(/ /g, '\u2423') || '\u2205' : text.trim();
  const points = Array.from(text);
  return `\u201C\u2068${points.length > 24 ? points.slice(0, 23).join('') + '\u2026' : text}\u2069\u201D`;
}

// One token as it stands in running text: a line break keeps a visible mark that can be pointed at.
const running = token => token.replace(/\r?\n/g, '\u21B5\n').replace(/[\u0000-\u0008\u000B-\u001F\u007F]/g, '\u25A1');

// A word of running text: the blanks before it stay outside, so that its tint and its frame are the word's own.
function wordOf(token, index) {
  const text = running(token), blank = text.trim() === '' ? '' : text.match(/^ */)[0], word = element('span', '', text.slice(blank.length));
  word.dataset.i = index;
  return { blank, word };
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function dress(root, variables) {
  for (const [name, value] of Object.entries(variables)) root.style.setProperty(name, value);
}

function fit(canvas, width, height) {
  const dots = window.devicePixelRatio || 1;
  const w = Math.max(1, Math.round(width * dots)), h = Math.max(1, Math.round(height * dots));
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  canvas.style.width = width + 'px';
  canvas.style.height = height + 'px';
  const pen = canvas.getContext('2d');
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  return pen;
}

// The hatch of the future: diagonal lines, even in both directions, at any density of the screen.
const hatched = (x, y, dots) => (x + y) % Math.round(6 * dots) < Math.max(1, Math.round(1.25 * dots));

function hatchPattern(pen, background, line) {
  const dots = window.devicePixelRatio || 1, size = Math.round(6 * dots);
  const tile = document.createElement('canvas');
  tile.width = tile.height = size;
  const brush = tile.getContext('2d');
  brush.fillStyle = background;
  brush.fillRect(0, 0, size, size);
  brush.fillStyle = line;
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) if (hatched(x, y, dots)) brush.fillRect(x, y, 1, 1);
  const pattern = pen.createPattern(tile, 'repeat');
  pattern.setTransform(new DOMMatrix().scale(1 / dots));
  return pattern;
}

// Round tick positions within [start, stop), at most `count` of them.
function ticks(start, stop, count) {
  const rough = Math.max(1, (stop - start) / Math.max(1, count));
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(k => k * decade).find(s => s >= rough * 0.999);
  const out = [];
  for (let at = Math.ceil(start / step) * step; at < stop; at += step) out.push(at);
  return out;
}

const thousands = value => value >= 10000 ? +(value / 1000).toFixed(1) + 'k' : String(value);

// A colour bar with its marks, and a swatch for each reserved code that the picture holds.
function drawBar(bar, { palette, scale, words, kinds }) {
  bar.replaceChildren();
  const stops = [];
  for (let i = 0; i <= 36; i++) {
    const code = Math.round(i / 36 * TOP_LEVEL) * 3;
    stops.push(`rgb(${palette[code]},${palette[code + 1]},${palette[code + 2]})`);
  }
  const scaleBox = element('div', 'la-scale'), ramp = element('div', 'la-ramp'), marks = element('div', 'la-marks');
  ramp.style.background = `linear-gradient(to right, ${stops.join(',')})`;
  scale.ticks.forEach(([at, label], i) => {
    const mark = element('span', '', i === 0 && scale.kind === 'log' ? '\u2264 ' + label : label);
    mark.style.left = 100 * at + '%';
    marks.append(mark);
  });
  scaleBox.append(element('span', 'la-what', words.scale), ramp, marks);
  bar.append(scaleBox);
  for (const kind of kinds) {
    const key = element('span', 'la-key');
    key.append(element('i', 'la-swatch la-' + kind), element('span', '', words['key_' + kind]));
    bar.append(key);
  }
}

// Keeps what a visitor sees in step with what a screen reader says, without a word for every move of the pointer.
function speaker(node) {
  let timer = 0;
  return text => {
    clearTimeout(timer);
    timer = setTimeout(() => { if (node.isConnected) node.textContent = text; }, 200);
  };
}

// One part of the page for each element: made when the element is first seen, brought up to date at each call.
const instances = new WeakMap();

function mounted(component, selector, Kind) {
  const root = component.parentElement.querySelector(selector);
  let part = instances.get(root);
  if (!part) instances.set(root, part = new Kind(root));
  part.update(component);
  // Streamlit calls an outdated call's cleanup while the element lives on: only a removed element is given up.
  return () => { if (!root.isConnected) part.dispose?.(); };
}
