import { interval } from "casket/model/statistics";

const GRID = 240;

/**
 * Returns the mean of curves over a common grid, a band of "interval" or "range" around it, and
 * `n`: how many of the curves have a value there; of "middle", the median with the middle 80 %. Between points farther apart than a curve's
 * `reach` it has none.
 */
export function bandOf(curves, kind) {
  const xs = gridOf(curves);
  const mean = new Float64Array(xs.length).fill(NaN);
  const low = mean.slice();
  const high = mean.slice();
  const n = new Uint32Array(xs.length);
  const readers = curves.map(reader);
  xs.forEach((x, i) => {
    const values = readers.map((read) => read(x)).filter(Number.isFinite);
    if (!values.length) return;
    if (kind === "middle") {
      values.sort((a, b) => a - b);
      [low[i], mean[i], high[i]] = [0.1, 0.5, 0.9].map((share) => quantileOf(values, share));
      n[i] = values.length;
      return;
    }
    const found = interval(values);
    const margin = Number.isFinite(found.margin) ? found.margin : 0;
    n[i] = found.n;
    mean[i] = found.mean;
    low[i] = kind === "range" ? Math.min(...values) : found.mean - margin;
    high[i] = kind === "range" ? Math.max(...values) : found.mean + margin;
  });
  return { xs, mean, low, high, n };
}

/** Returns the value below which a share of sorted numbers lies, between two of them if need be. */
export function quantileOf(sorted, share) {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const next = sorted[Math.min(below + 1, sorted.length - 1)];
  return sorted[below] + (at - below) * (next - sorted[below]);
}

function gridOf(curves) {
  const longest = curves.reduce((a, b) => (b.xs.length > a.xs.length ? b : a));
  const shared = curves.every(({ xs }) => xs === longest.xs || isStartOf(xs, longest.xs));
  if (shared) return longest.xs;
  const all = [...new Set(curves.flatMap(({ xs }) => [...xs]))];
  if (all.length <= GRID) return Float64Array.from(all).sort();
  const from = Math.min(...curves.map(({ xs }) => xs[0]));
  const to = Math.max(...curves.map(({ xs }) => xs[xs.length - 1]));
  return Float64Array.from({ length: GRID }, (_, i) => from + ((to - from) * i) / (GRID - 1));
}

function isStartOf(xs, longer) {
  return xs.every((x, i) => x === longer[i]);
}

const joined = new WeakMap();

/** Returns a curve over the values of another metric at its points, in their order. */
export function overMetric(curve, by) {
  if (!curve?.xs.length || !by?.xs.length) return undefined;
  const known = joined.get(curve.ys);
  if (known?.by === by.ys) return known.curve;
  const read = reader(by);
  const points = Array.from(curve.xs, (x, i) => [read(x), curve.ys[i]])
    .filter(([x]) => Number.isFinite(x))
    .sort((a, b) => a[0] - b[0]);
  const [xs, ys] = [0, 1].map((at) => Float64Array.from(points, (point) => point[at]));
  const found = { ...curve, xs, ys, isJoined: true };
  joined.set(curve.ys, { by: by.ys, curve: found });
  return found;
}

/** Returns a function of growing x that gives the value between points, NaN where there is none. */
function reader({ xs, ys, reach = Infinity }) {
  let i = 0;
  return (x) => {
    if (x < xs[0] || x > xs[xs.length - 1]) return NaN;
    while (i < xs.length - 1 && xs[i + 1] <= x) i += 1;
    if (xs[i] === x || i === xs.length - 1) return ys[i];
    if (xs[i + 1] - xs[i] > reach) return NaN;
    const share = (x - xs[i]) / (xs[i + 1] - xs[i]);
    return ys[i] + (ys[i + 1] - ys[i]) * share;
  };
}
