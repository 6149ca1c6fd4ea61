/**
 * Returns a curve smoothed by an exponential moving average.
 *
 * The weight of the past falls with the distance between points, not with their number, so that a
 * curve keeps its shape when it comes with fewer points; what is missing before the first point
 * counts as missing and not as zero. NaN and infinities stay where they are and count for nothing.
 */
export function smoothed(xs, ys, weight, steps = xs.length - 1) {
  const step = (xs[xs.length - 1] - xs[0]) / steps || 1;
  const out = new Float64Array(ys.length);
  let sum = 0;
  let total = 0;
  let last = xs[0];
  for (let i = 0; i < ys.length; i += 1) {
    if (!Number.isFinite(ys[i])) {
      out[i] = ys[i];
      continue;
    }
    const decay = weight ** ((xs[i] - last) / step);
    sum = sum * decay + ys[i];
    total = total * decay + 1;
    out[i] = sum / total;
    last = xs[i];
  }
  return out;
}
