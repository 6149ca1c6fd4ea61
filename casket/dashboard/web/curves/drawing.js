// From curves to drawings: lines or bands, their extent, and their notes.

import { bandOf } from "casket/curves/align";
import { smoothed } from "casket/curves/smoothing";
import { sameItems } from "casket/model/arrange";

const DASHES = [[], [5, 3], [2, 2], [8, 3, 2, 3]];
/** The dashes of sessions whose color another has already. */
const REPEATED = [[14, 4], [5, 3, 1, 3], [2, 6], [8, 3, 2, 3, 2, 3]];
const MEDIAN = [3, 3];
const FEWEST_OTHERS = 3;
const WIDE_GAP = 3.5;
const ROOM = 0.25;
const EDGE = 0.02;
const MISSED = 1.5;
const RARE = 0.01;
const OUTLYING = 1;
const FEWEST_FOR_OUTLIERS = 20;

/** The line or band drawn last of a list of curves, by the values of the first of them. */
const before = new WeakMap();

/**
 * Returns the drawing.
 *
 * `parts` are the sessions or groups: `{key, label, color, curves: {metric: [curve, ...]}}`, of a
 * session one curve each, of a group those of its sessions.
 */
export function drawingOf(parts, metrics, given) {
  const { smooth, isLog, band, range, x, isGrouped, outliers, limits } = given;
  /** @type {{lines: any[], bands: any[], isLog: boolean, x: string}} */
  const drawing = { lines: [], bands: [], isLog, x };
  const tally = { down: 0, widest: null, below: 0, odd: 0, values: 0, left: 0, curves: 0, off: 0 };
  metrics.forEach((metric, i) => {
    // Metrics of unseen data come last, with a solid line.
    const at = Math.min(metrics.length - 1 - i, DASHES.length - 1);
    for (const part of parts) {
      const dash = (part.repeat > 0 ? REPEATED : DASHES)[at];
      const curves = (part.curves[metric] ?? []).filter((curve) => curve?.xs.length);
      if (!curves.length) continue;
      for (const curve of curves) count(tally, curve, isLog);
      const { key, label, name = label, color, isBest } = part;
      const width = isBest ? 3 : 1.5;
      const isRepeated = part.repeat > 0;
      const shape = { key, label, name, color, metric, dash, width, isBest, isRepeated };
      const settings = { ...shape, smooth, x, band, isGrouped };
      const make = () => ({ ...shape, ...(isGrouped ? bandOfAll : firstLine)(curves, settings) });
      drawing[isGrouped ? "bands" : "lines"].push(kept(curves, settings, make));
    }
  });
  drawing.lines.sort((a, b) => Number(Boolean(a.isBest)) - Number(Boolean(b.isBest)));
  const extent = extentOf(drawing, range);
  if (!outliers) leaveOut(extent, drawing, tally);
  if (limits) extent.y = within(extent.y, limits, isLog);
  return { ...drawing, extent, tally };
}

/** Returns the line or band of some curves, the same object as before if nothing differs. */
function kept(curves, settings, make) {
  const values = curves.map(({ ys }) => ys);
  const known = before.get(values[0]);
  const isSame = (name) => known.settings[name] === settings[name];
  if (known && sameItems(known.values, values) && Object.keys(settings).every(isSame)) {
    return known.line;
  }
  const line = make();
  before.set(values[0], { values, settings, line });
  return line;
}

/** Returns the band of curves that are not drawn, null if they are too few for one. */
export function othersOf(curves, color, x) {
  const logged = curves.filter((curve) => curve?.xs.length);
  if (logged.length < FEWEST_OTHERS) return null;
  const settings = { smooth: 0, x, band: "middle", color };
  return kept(logged, settings, () => ({ color, dash: MEDIAN, width: 1.2, ...bandOfAll(logged, settings) }));
}

/** Returns whether two drawings look the same. */
export function isSameDrawing(a, b) {
  const isSame = (name) => a[name] === b[name];
  return Boolean(a) && ["isLog", "x", "scheme", "colors", "others"].every(isSame) &&
    [[a.lines, b.lines], [a.bands, b.bands], [a.extent.x, b.extent.x], [a.extent.y, b.extent.y]]
      .every(([list, other]) => sameItems(list, other));
}

function firstLine([curve], { smooth }) {
  return lineOf(curve, smooth);
}

function bandOfAll(curves, { smooth, x, band }) {
  const lines = curves.map((curve) => {
    const line = lineOf(curve, smooth);
    return { ...line, reach: reachOf(curve, line, x) };
  });
  return { ...bandOf(lines, band), band };
}

function lineOf(curve, smooth) {
  const { xs, ys, count: all, shown, isJoined } = curve;
  const gap = isJoined ? Infinity : gapOf(xs, shown < all);
  if (!smooth || xs.length < 3) return { xs, ys, raw: null, gap };
  return { xs, ys: smoothed(xs, ys, smooth, Math.max(all - 1, 1)), raw: ys, gap };
}

/** Returns how far apart two neighbors may be for a value to be read between them. */
function reachOf({ count: all, shown }, { gap }, x) {
  // An epoch that a curve usually has is missing; a time at which it logged nothing is not.
  return x === "number" && shown === all ? (gap / WIDE_GAP) * MISSED : gap;
}

/** Returns the distance from which on two neighbors have a gap between them. */
function gapOf(xs, isDownSampled) {
  if (xs.length < 3) return Infinity;
  const part = (xs[xs.length - 1] - xs[0]) / (xs.length / 2);
  if (isDownSampled) return WIDE_GAP * part;
  const steps = Array.from(xs.subarray(1), (x, i) => x - xs[i]).sort((a, b) => a - b);
  return WIDE_GAP * steps[Math.floor((steps.length - 1) * 0.75)];
}

function count(tally, curve, isLog) {
  tally.curves += 1;
  tally.left += curve.leftOut;
  tally.values += curve.ys.length;
  if (curve.shown < curve.count) {
    tally.down += 1;
    if (curve.count > (tally.widest?.count ?? 0)) tally.widest = curve;
  }
  for (const y of curve.ys) {
    if (!Number.isFinite(y)) tally.odd += 1;
    else if (isLog && y <= 0) tally.below += 1;
  }
}

function extentOf({ lines, bands, isLog }, range) {
  const ends = lines.concat(bands).flatMap(({ xs }) => [xs[0], xs[xs.length - 1]]);
  const x = range ?? withEdge(spread(ends));
  const y = [Infinity, -Infinity];
  const see = (xs, ys) => {
    for (let i = 0; i < xs.length; i += 1) {
      const value = ys[i];
      if (xs[i] < x[0] || xs[i] > x[1] || !Number.isFinite(value)) continue;
      if (isLog && value <= 0) continue;
      if (value < y[0]) y[0] = value;
      if (value > y[1]) y[1] = value;
    }
  };
  for (const { xs, ys, raw } of lines) {
    see(xs, ys);
    if (raw) see(xs, raw);
  }
  for (const { xs, mean } of bands) see(xs, mean);
  const [low, high] = y;
  for (const band of bands) {
    // An interval may reach down to zero, which is endlessly far away on a log axis.
    if (!isLog) see(band.xs, band.low);
    see(band.xs, band.high);
  }
  // The interval of two sessions can be so wide that nothing else would be seen.
  const room = isLog ? 0 : (high - low) * ROOM;
  const limit = [low - room, isLog ? high * 2 : high + room];
  const seen = bands.length ? [Math.max(y[0], limit[0]), Math.min(y[1], limit[1])] : y;
  return { x, y: padded(seen, isLog) };
}

function spread(numbers) {
  let low = Infinity;
  let high = -Infinity;
  for (const number of numbers) {
    if (number < low) low = number;
    if (number > high) high = number;
  }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/** Makes the y axis end where nearly all values are, and counts those that run off it. */
function leaveOut(extent, { lines, isLog }, tally) {
  const by = isLog ? Math.log : (value) => value;
  const ys = lines.flatMap(({ ys: values }) => [...values].filter(Number.isFinite));
  const places = ys.filter((value) => !isLog || value > 0).map(by).sort((a, b) => a - b);
  if (places.length < FEWEST_FOR_OUTLIERS) return;
  const at = (share) => places[Math.floor(share * (places.length - 1))];
  const [low, high] = [at(RARE), at(1 - RARE)];
  const reach = (high - low) * OUTLYING;
  if (!(reach > 0)) return;
  const inside = places.filter((place) => place >= low - reach && place <= high + reach);
  tally.off = places.length - inside.length;
  if (!tally.off) return;
  const ends = [inside[0], inside[inside.length - 1]];
  extent.y = padded(isLog ? ends.map(Math.exp) : ends, isLog);
}

/**
 * Returns the ends of an axis with those that were chosen, as far as they make an axis.
 *
 * @param {number[]} ends
 * @param {(number | null)[]} limits
 * @param {boolean} isLog
 */
function within([low, high], limits, isLog) {
  const ends = [limits[0] ?? low, limits[1] ?? high];
  return ends[0] < ends[1] && !(isLog && ends[0] <= 0) ? ends : [low, high];
}

/** Leaves room for the marks at the first and at the last point. */
/** @param {number[]} ends */
function withEdge([low, high]) {
  const edge = (high - low) * EDGE;
  return [low - edge, high + edge];
}

/**
 * @param {number[]} ends
 * @param {boolean} isLog
 */
function padded([low, high], isLog) {
  if (low > high) return isLog ? [0.1, 1] : [0, 1];
  if (isLog) return low === high ? [low / 2, high * 2] : [low / 1.08, high * 1.08];
  const pad = (high - low) * 0.04 || Math.abs(low) * 0.1 || 0.5;
  return [low - pad, high + pad];
}
