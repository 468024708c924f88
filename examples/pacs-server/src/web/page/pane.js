// One pane: a series, one picture of it at a time, and what hands do with it.

import { date, name, rendered, seriesMetadata, text } from './dicomweb.js';
import { h, say, short } from './dom.js';
import { frames } from './geometry.js';
import { ahead, here, picture } from './pictures.js';

const FRESH = { index: 0, window: null, invert: false, zoom: 1, pan: [0, 0] };

export class Pane {
  /** `host` answers for the viewer: `tool()`, `changed(pane)`, `scrolled(pane, by)`, `key(event, pane)`. */
  constructor(title, host) {
    this.title = title;
    this.host = host;
    this.frames = [];
    this.measures = new Map();
    this.pointers = new Map();
    Object.assign(this, structuredClone(FRESH));
    this.canvas = h('canvas', {
      tabIndex: 0, role: 'application', 'aria-roledescription': 'image viewer', 'aria-describedby': 'keys-short',
    });
    this.corners = Object.fromEntries(['tl', 'tr', 'bl', 'br'].map((at) => [at, h('div', { className: `corner ${at}` })]));
    this.message = h('div', { className: 'message', role: 'alert' });
    this.slider = h('input', { type: 'range', min: 1, max: 1, value: 1, disabled: true, 'aria-label': `${title}: image` });
    this.element = h('section', { className: 'pane', 'aria-label': title },
      h('div', { className: 'stage' }, this.canvas, ...Object.values(this.corners), this.message), this.slider);
    this.slider.oninput = () => this.go(this.slider.value - 1);
    this.watch();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  get frame() { return this.frames[this.index]; }

  /** Shows a series, as `state` says. */
  async load(study, series, state = {}) {
    this.opening?.abort();
    const opening = this.opening = new AbortController();
    this.stop();
    Object.assign(this, structuredClone(FRESH), { study, series, frames: [], shown: null, failed: null });
    this.measures.clear();
    this.slider.disabled = true;
    this.tell('Opening the series…');
    this.host.changed(this);
    this.draw();
    try {
      const metadata = await seriesMetadata(study, series, opening.signal);
      const all = frames(metadata);
      if (!all.length) {
        const modality = text(metadata[0], '00080060');
        return this.tell(`There are no images in this series${modality && ` (${modality})`}.`);
      }
      Object.assign(this, state, { frames: all });
      this.index = Math.min(Math.max(0, this.index), all.length - 1);
      this.slider.max = all.length;
      this.slider.disabled = all.length < 2;
      this.tell('');
      this.host.changed(this);
      this.refresh();
    } catch (error) {
      if (error.name !== 'AbortError') this.fail(error, () => this.load(study, series, state));
    }
  }

  /** Forgets what it shows. */
  clear(words = '') {
    this.opening?.abort();
    this.stop();
    Object.assign(this, structuredClone(FRESH), { study: null, series: null, frames: [], shown: null });
    this.slider.disabled = true;
    this.draw();
    this.tell(words);
  }

  tell(words, ...more) { this.message.replaceChildren(words, ...more); }

  fail(error, again) {
    this.failed = error;
    this.tell(error.message, h('button', { type: 'button', textContent: 'Try again', onclick: () => { this.tell(''); again(); } }));
  }

  // ---- where it is ----

  go(index, linked = false) {
    if (!this.frames.length) return;
    const to = Math.min(Math.max(0, index), this.frames.length - 1), by = to - this.index;
    if (!by) return;
    this.index = to;
    this.direction = Math.sign(by);
    if (!linked) this.host.scrolled(this, by);
    this.changed(`Image ${to + 1} of ${this.frames.length}`);
  }

  setWindow(window) {
    if (!this.frame || this.frame.color) return;
    if (window) window = { center: window.center, width: Math.max(window.width, 1e-6) };
    this.window = window;
    this.changed(window ? `Window centre ${short(window.center)}, width ${short(window.width)}` : 'Window of the image');
  }

  /** Changes the window by steps that follow from its first width. */
  turnWindow(center, width) {
    if (!this.frame) return;
    const now = this.window ?? this.frame.firstWindow();
    const step = this.frame.firstWindow().width / 256;
    this.setWindow({ center: now.center + center * step, width: Math.max(now.width + width * step, step / 8) });
  }

  zoomBy(factor, at) {
    const zoom = Math.min(40, Math.max(0.2, this.zoom * factor));
    if (at && this.frame) {
      // What lies under the pointer stays there.
      const before = this.toImage(at);
      this.zoom = zoom;
      const after = this.toImage(at);
      this.pan = [this.pan[0] + after[0] - before[0], this.pan[1] + after[1] - before[1]];
    }
    this.zoom = zoom;
    this.changed(`Zoom ${Math.round(zoom * 100)} percent`);
  }

  /** Moves the picture, by pixels of the screen. */
  panBy(dx, dy) {
    if (!this.frame) return;
    const { sx, sy } = this.scale();
    this.pan = [this.pan[0] + dx / sx, this.pan[1] + dy / sy];
    this.changed();
  }

  setInvert(invert) { this.invert = invert; this.changed(invert ? 'Inverted' : 'Not inverted'); }

  reset() {
    Object.assign(this, { window: null, invert: false, zoom: 1, pan: [0, 0] });
    this.changed('Reset');
  }

  erase() {
    const list = this.measures.get(this.frame?.key);
    this.changed(list?.pop() ? 'Length removed' : 'There is no length on this image');
  }

  changed(words) {
    if (words) say(words, 350);
    this.host.changed(this);
    this.refresh();
  }

  // ---- cine ----

  play() {
    if (this.frames.length < 2) return;
    this.playing = true;
    const pace = this.frame.pace();
    let due = performance.now();
    const tick = (now) => {
      if (!this.playing) return;
      // The next one only when this one is to be seen: a slow network plays slowly.
      if (now >= due && this.shown?.index === this.index) {
        due = Math.max(due + pace, now);
        const next = (this.index + 1) % this.frames.length, by = next - this.index;
        this.index = next;
        this.direction = 1;
        this.host.scrolled(this, by);
        this.host.changed(this);
        this.refresh();
      }
      if (this.failed) return this.stop();
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
    this.host.changed(this);
  }

  stop() {
    if (!this.playing) return;
    this.playing = false;
    this.host.changed(this);
  }

  // ---- pictures ----

  url(index) {
    const frame = this.frames[index], parameters = new URLSearchParams();
    const { center, width } = this.window ?? {};
    if (width && !frame.color) parameters.set('window', `${center},${width},linear`);
    // Large pictures come smaller until they are looked at closely.
    const need = this.scale(frame).sy * devicePixelRatio;
    const part = [0.25, 0.5].find((part) => part >= need && frame.columns * part >= 512);
    if (part) parameters.set('viewport', `${Math.round(frame.columns * part)},${Math.round(frame.rows * part)}`);
    parameters.set('quality', 90);
    return `${rendered(this.study, this.series, frame.instance, frame.number)}?${parameters}`.replaceAll('%2C', ',');
  }

  /** Brings on what is wanted now: one picture at a time, of those that were passed over none. */
  async refresh() {
    if (!this.frame) return this.draw();
    const url = this.url(this.index);
    const known = here(url);
    if (known) this.show(known, url);
    this.draw();
    if (known || this.fetching) return;
    this.fetching = true;
    const opening = this.opening;
    try {
      const index = this.index;
      const bitmap = await picture(url);
      if (opening === this.opening) this.show(bitmap, url, index);
    } catch (error) {
      if (opening === this.opening && this.frame && this.url(this.index) === url) {
        this.shown = null;
        this.fail(error, () => { this.failed = null; this.refresh(); });
      }
    }
    this.fetching = false;
    this.draw();
    if (this.frame && !this.failed && this.shown?.url !== this.url(this.index)) this.refresh();
  }

  show(bitmap, url, index = this.index) {
    if (this.failed) this.tell('');
    this.failed = null;
    this.shown = { bitmap, url, index, frame: this.frames[index] };
    // While the window turns, each turn would make what was fetched ahead useless.
    if (this.turning) return;
    const to = this.direction ?? 1, around = this.playing ? [1, 2, 3, 4, 5, 6, 7, 8] : [1, -1, 2, 3, 4, -2];
    const next = around.map((n) => index + n * to)
      .map((n) => (this.playing ? n % this.frames.length : n)).filter((n) => this.frames[n]);
    ahead(this, next.map((n) => this.url(n)));
  }

  /** Screen pixels for one pixel of the image, across and down. */
  scale(frame = this.frame) {
    const aspect = frame.aspect();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const sy = Math.min(width / (frame.columns * aspect), height / frame.rows) * this.zoom || 1;
    return { sx: sy * aspect, sy, width, height };
  }

  toImage([x, y]) {
    const { sx, sy, width, height } = this.scale();
    return [(x - width / 2) / sx - this.pan[0] + this.frame.columns / 2, (y - height / 2) / sy - this.pan[1] + this.frame.rows / 2];
  }

  toScreen([x, y]) {
    const { sx, sy, width, height } = this.scale();
    return [(x + this.pan[0] - this.frame.columns / 2) * sx + width / 2, (y + this.pan[1] - this.frame.rows / 2) * sy + height / 2];
  }

  draw() {
    this.pending ??= requestAnimationFrame(() => { this.pending = null; this.paint(); });
  }

  paint() {
    const { canvas } = this, ratio = devicePixelRatio;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext('2d');
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    this.label();
    if (!this.frame || !this.shown) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { frame } = this.shown, { sx, sy } = this.scale(frame);
    const [left, top] = this.toScreen([(this.frame.columns - frame.columns) / 2, (this.frame.rows - frame.rows) / 2]);
    const box = [left, top, frame.columns * sx, frame.rows * sy];
    context.imageSmoothingQuality = 'high';
    context.drawImage(this.shown.bitmap, ...box);
    if (this.invert) {
      context.globalCompositeOperation = 'difference';
      context.fillStyle = '#fff';
      context.fillRect(...box);
      context.globalCompositeOperation = 'source-over';
    }
    this.paintMeasures(context);
  }

  paintMeasures(context) {
    const list = this.measures.get(this.frame.key) ?? [];
    context.lineWidth = 1.5;
    context.font = '600 13px system-ui, sans-serif';
    context.shadowColor = '#000';
    context.shadowBlur = 3;
    context.strokeStyle = context.fillStyle = '#ffd54a';
    for (const line of this.line ? [...list, this.line] : list) {
      const [a, b] = [this.toScreen(line), this.toScreen(line.slice(2))];
      const angle = Math.atan2(b[1] - a[1], b[0] - a[0]) + Math.PI / 2;
      const tick = [Math.cos(angle) * 6, Math.sin(angle) * 6];
      context.beginPath();
      for (const [from, to] of [[a, b], ...[a, b].map((p) => [[p[0] - tick[0], p[1] - tick[1]], [p[0] + tick[0], p[1] + tick[1]]])]) {
        context.moveTo(...from);
        context.lineTo(...to);
      }
      context.stroke();
      const words = this.frame.length(line), room = this.canvas.clientWidth - context.measureText(words).width - 4;
      context.fillText(words, Math.max(4, Math.min(room, Math.max(a[0], b[0]) + 8)), (a[1] + b[1]) / 2 - 6);
    }
    if (this.cross && this.host.tool() === 'measure') {
      const [x, y] = this.toScreen(this.cross);
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * 3, y + dy * 3);
        context.lineTo(x + dx * 12, y + dy * 12);
      }
      context.stroke();
    }
    context.shadowBlur = 0;
  }

  /** What stands in the corners. */
  label() {
    const { frame } = this, { tl, tr, bl, br } = this.corners;
    const lines = (corner, list) => {
      const words = list.filter(Boolean).join('\n');
      if (corner.textContent !== words) corner.textContent = words;
    };
    if (!frame) return [tl, tr, bl, br].forEach((corner) => lines(corner, []));
    const { set } = frame, place = frame.depth();
    const size = this.window ?? frame.windows()[0];
    lines(tl, [name(set), text(set, '00100020'), [date(set, '00100030'), text(set, '00100040')].filter(Boolean).join(' ')]);
    lines(tr, [date(set, '00080020'), text(set, '00081030'), `${text(set, '00080060')} ${text(set, '0008103E')}`]);
    lines(bl, [`${this.index + 1} / ${this.frames.length}`, place != null && `${place.toFixed(1)} mm`]);
    lines(br, [
      !frame.color && size && `C ${short(size.center)}  W ${short(size.width)}`,
      `${Math.round(this.zoom * 100)} %${this.invert ? ' inverted' : ''}`,
      text(set, '00282110') === '01' && 'lossy',
    ]);
    this.slider.value = this.index + 1;
    this.slider.setAttribute('aria-valuetext', `${this.index + 1} of ${this.frames.length}`);
    const what = `${this.title}: ${text(set, '00080060')} ${text(set, '0008103E')}, image ${this.index + 1} of ${this.frames.length}`;
    if (this.canvas.getAttribute('aria-label') !== what) this.canvas.setAttribute('aria-label', what);
    this.element.dataset.shown = this.shown ? this.shown.index + 1 : '';
  }

  // ---- hands ----

  watch() {
    const { canvas, pointers } = this;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const fingers = () => {
      const [a, b] = [...pointers.values()];
      return { apart: Math.hypot(a[0] - b[0], a[1] - b[1]), middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] };
    };
    canvas.oncontextmenu = (event) => event.preventDefault();
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, at(event));
      this.stop();
      this.rest = 0;
      this.mode = { 1: 'pan', 2: 'window' }[event.button] ?? this.host.tool();
      if (pointers.size === 2) this.mode = 'pinch';
      this.line = null;
      if (this.mode === 'measure' && this.frame) {
        const point = this.toImage(at(event));
        this.line = [...point, ...point];
      }
      if (event.button === 1) event.preventDefault();
    };
    canvas.onpointermove = (event) => {
      const before = pointers.get(event.pointerId);
      if (!before || !this.frame) return;
      const was = pointers.size === 2 ? fingers() : null, now = at(event);
      pointers.set(event.pointerId, now);
      const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
      if (this.mode === 'pinch' && was) {
        const is = fingers();
        this.panBy(is.middle[0] - was.middle[0], is.middle[1] - was.middle[1]);
        if (was.apart > 8) this.zoomBy(is.apart / was.apart, is.middle);
      } else if (this.mode === 'measure' && this.line) {
        this.line.splice(2, 2, ...this.toImage(now));
        this.draw();
      } else if (this.mode === 'window') {
        this.turning = true;
        this.turnWindow(dy, dx);
      } else if (this.mode === 'pan') {
        this.panBy(dx, dy);
      } else if (this.mode === 'zoom') {
        this.zoomBy(Math.exp(-dy / 150));
      } else if (this.mode === 'scroll') {
        this.roll(dy, Math.max(3, Math.min(24, canvas.clientHeight / this.frames.length)));
      }
    };
    canvas.onpointerup = canvas.onpointercancel = (event) => {
      pointers.delete(event.pointerId);
      if (this.turning) {
        this.turning = false;
        this.refresh();
      }
      if (this.line) this.keepLine();
      // The finger that stays does nothing more.
      this.mode = null;
    };
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.stop();
      const dy = event.deltaY * [1, 40, 400][event.deltaMode];
      if (event.ctrlKey) this.zoomBy(Math.exp(-dy / 200), at(event));
      else this.roll(Math.abs(dy) >= 100 ? Math.sign(dy) * 100 : dy, 100);
    }, { passive: false });
    canvas.onkeydown = (event) => {
      if (this.key(event)) event.preventDefault();
      else this.host.key(event, this);
    };
  }

  /** Goes on by as many images as the way `by` has steps. */
  roll(by, step) {
    this.rest = (this.rest ?? 0) + by;
    const images = Math.trunc(this.rest / step);
    this.rest -= images * step;
    if (images) this.go(this.index + images);
  }

  keepLine() {
    const line = this.line;
    this.line = null;
    const [a, b] = [this.toScreen(line), this.toScreen(line.slice(2))];
    if (Math.hypot(a[0] - b[0], a[1] - b[1]) > 4) {
      const { key } = this.frame;
      this.measures.set(key, [...(this.measures.get(key) ?? []), line]);
      say(`Length ${this.frame.length(line)}`);
    }
    this.draw();
  }

  /** Whether the key was for this pane. Arrow keys do what the tool does. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.frame) return false;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const tool = event.shiftKey ? 'window' : this.host.tool();
    if (arrow) {
      const [x, y] = arrow;
      if (tool === 'window') this.turnWindow(y * 8, x * 8);
      else if (tool === 'pan') this.panBy(x * 30, y * 30);
      else if (tool === 'zoom') this.zoomBy(x + y * -1 > 0 ? 1.1 : 1 / 1.1);
      else if (tool === 'measure') this.moveCross(x, y);
      else { this.stop(); this.go(this.index + x + y); }
      return true;
    }
    const jump = { PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
    if (jump) { this.stop(); this.go(this.index + jump); return true; }
    if (event.key === 'Enter' && tool === 'measure') {
      this.moveCross(0, 0);
      if (this.line) this.keepLine();
      else { this.line = [...this.cross, ...this.cross]; say('First end set. Move with the arrow keys, Enter sets the second.'); }
      this.draw();
      return true;
    }
    return false;
  }

  moveCross(x, y) {
    const { columns, rows } = this.frame, step = 8 / this.scale().sy;
    const [cx, cy] = this.cross ?? [columns / 2, rows / 2];
    this.cross = [Math.min(columns, Math.max(0, cx + x * step)), Math.min(rows, Math.max(0, cy + y * step))];
    if (this.line) {
      this.line.splice(2, 2, ...this.cross);
      say(this.frame.length(this.line), 350);
    }
    this.draw();
  }
}
