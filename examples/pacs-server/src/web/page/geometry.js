// What a series' metadata say of its pictures: order, spacing, windows.

import { numbers, text, values } from './dicomweb.js';

/** One frame of one instance, with the attributes that hold for this frame. */
class Frame {
  constructor(set, number) {
    this.set = set;
    this.number = number;
    this.instance = text(set, '00080018');
    this.key = `${this.instance}/${number}`;
    this.rows = numbers(set, '00280010')[0] || 0;
    this.columns = numbers(set, '00280011')[0] || 0;
    this.color = numbers(set, '00280002')[0] > 1 || text(set, '00280004') === 'PALETTE COLOR';
  }

  /** The data set that holds `tag`: of this frame's functional groups, of the shared ones, or itself. */
  holder(macro, tag) {
    const groups = [values(this.set, '52009230')[this.number - 1], values(this.set, '52009229')[0]];
    for (const group of groups) {
      const inner = values(group, macro)[0];
      if (inner?.[tag]?.Value) return inner;
    }
    return this.set;
  }

  position() { return triple(numbers(this.holder('00209113', '00200032'), '00200032'), 3); }
  orientation() { return triple(numbers(this.holder('00209116', '00200037'), '00200037'), 6); }

  /** Where along its normal the plane lies, in mm. */
  depth() {
    const at = this.position(), o = this.orientation();
    if (!at || !o) return null;
    const normal = [o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]];
    return at[0] * normal[0] + at[1] * normal[1] + at[2] * normal[2];
  }

  /** Millimetres per row and column, and where that is said (PS3.3 10.7). */
  spacing() {
    const measured = numbers(this.holder('00289110', '00280030'), '00280030');
    if (measured.length === 2 && measured.every((n) => n > 0)) return { row: measured[0], column: measured[1], of: '' };
    for (const [tag, of] of [['00181164', 'at the detector'], ['00182010', 'nominal']]) {
      const other = numbers(this.set, tag);
      if (other.length === 2 && other.every((n) => n > 0)) return { row: other[0], column: other[1], of };
    }
    return null;
  }

  /** Width of a pixel over its height. */
  aspect() {
    const spacing = this.spacing();
    if (spacing) return spacing.column / spacing.row;
    const [vertical, horizontal] = numbers(this.set, '00280034');
    return vertical > 0 && horizontal > 0 ? horizontal / vertical : 1;
  }

  /** The length between two points of the picture, in words. */
  length([x1, y1, x2, y2]) {
    const [dx, dy] = [x2 - x1, y2 - y1];
    // An ultrasound image has its scale by regions, in cm (PS3.3 C.8.5.5).
    for (const region of values(this.set, '00186011')) {
      const [left, top, right, bottom] = ['00186018', '0018601A', '0018601C', '0018601E']
        .map((tag) => numbers(region, tag)[0]);
      const inside = (x, y) => x >= left && x <= right && y >= top && y <= bottom;
      const [unitX, unitY] = [numbers(region, '00186024')[0], numbers(region, '00186026')[0]];
      if (unitX === 3 && unitY === 3 && inside(x1, y1) && inside(x2, y2)) {
        const cm = Math.hypot(dx * numbers(region, '0018602C')[0], dy * numbers(region, '0018602E')[0]);
        return `${(cm * 10).toFixed(1)} mm`;
      }
    }
    const spacing = this.spacing();
    if (!spacing) return `${Math.hypot(dx, dy).toFixed(1)} px`;
    const mm = Math.hypot(dx * spacing.column, dy * spacing.row).toFixed(1);
    return spacing.of ? `${mm} mm ${spacing.of}` : `${mm} mm`;
  }

  /** The windows that come with it: centre, width, name. */
  windows() {
    const holder = this.holder('00289132', '00281050');
    const [centers, widths] = [numbers(holder, '00281050'), numbers(holder, '00281051')];
    const names = values(holder, '00281055');
    return centers.slice(0, widths.length)
      .map((center, i) => ({ center, width: widths[i], name: String(names[i] ?? `Window ${i + 1}`) }));
  }

  /** Where a change of the window begins when none is known: the whole range of stored values. */
  firstWindow() {
    const [own] = this.windows();
    if (own) return own;
    if (text(this.set, '00080060') === 'CT') return { center: 40, width: 400 };
    const bits = numbers(this.set, '00280101')[0] || 8;
    const holder = this.holder('00289145', '00281053');
    const [slope, intercept] = [numbers(holder, '00281053')[0] || 1, numbers(holder, '00281052')[0] || 0];
    const signed = numbers(this.set, '00280103')[0] === 1;
    let low = numbers(this.set, '00280106')[0], high = numbers(this.set, '00280107')[0];
    if (!(high > low)) [low, high] = signed ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1];
    return { center: (low + high + 1) / 2 * slope + intercept, width: Math.abs((high - low + 1) * slope) };
  }

  /** Milliseconds for one frame of cine. */
  pace() {
    const rate = numbers(this.set, '00082144')[0] || numbers(this.set, '00180040')[0];
    const time = numbers(this.set, '00181063')[0];
    return Math.min(1000, Math.max(20, rate > 0 ? 1000 / rate : time > 0 ? time : 100));
  }
}

const triple = (list, count) => (list.length === count ? list : null);

/** The frames of a series in the order in which they are shown. */
export function frames(metadata) {
  const number = (set) => numbers(set, '00200013')[0] ?? Infinity;
  const sets = metadata
    .filter((set) => numbers(set, '00280010')[0] > 0)
    .sort((a, b) => (number(a) - number(b) || 0) || (text(a, '00080018') < text(b, '00080018') ? -1 : 1));
  const all = sets.flatMap((set) => {
    const count = Math.max(1, numbers(set, '00280008')[0] || 1);
    return Array.from({ length: count }, (_, i) => new Frame(set, i + 1));
  });
  return byPosition(all) ?? all;
}

/** By position where all planes are parallel and each lies elsewhere; towards where the numbers go. */
function byPosition(all) {
  const first = all[0]?.orientation();
  if (!first || all.length < 3) return null;
  const placed = [];
  for (const frame of all) {
    const o = frame.orientation(), depth = frame.depth();
    if (depth == null || o.some((n, i) => Math.abs(n - first[i]) > 0.01)) return null;
    placed.push({ frame, depth });
  }
  const turn = placed.at(-1).depth < placed[0].depth ? -1 : 1;
  placed.sort((a, b) => turn * (a.depth - b.depth));
  const apart = placed.every(({ depth }, i) => i === 0 || Math.abs(depth - placed[i - 1].depth) > 0.01);
  return apart ? placed.map(({ frame }) => frame) : null;
}

/** Windows that radiologists agree on, for CT. */
export const CT = [
  { name: 'Soft tissue', center: 40, width: 400 },
  { name: 'Lung', center: -600, width: 1500 },
  { name: 'Bone', center: 400, width: 1800 },
  { name: 'Brain', center: 40, width: 80 },
];
