// Draws lines and bands on a canvas, with gaps, NaN and infinities shown as such.

const FAINT = 0.28;
const OTHERS = 0.6;
const MARK = 3.5;
const DOT = 2.2;
const ALONE = 3.5;

/** Returns functions from values to pixels of a canvas. */
export function scales({ left, top, width, height }, [x0, x1], [y0, y1], isLog) {
  const kx = width / (x1 - x0 || 1);
  const by = isLog ? Math.log : (value) => value;
  const low = by(y0);
  const ky = height / (by(y1) - low || 1);
  return {
    x: (value) => left + (value - x0) * kx,
    y: (value) => top + height - (by(value) - low) * ky,
    isLog,
    top,
    bottom: top + height,
  };
}

/** Draws everything inside a box of the canvas. */
export function paint(context, box, at, { lines, bands, others }, ratio) {
  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.width, box.height);
  context.clip();
  context.lineJoin = "round";
  if (others) {
    paintBand(context, at, others);
    paintLine(context, at, { ...others, ys: others.mean }, ratio, OTHERS);
  }
  for (const band of bands) paintBand(context, at, band);
  const alpha = lines.length > 60 ? Math.max(0.25, 12 / Math.sqrt(lines.length * 20)) : 1;
  for (const line of lines) {
    if (line.raw) paintLine(context, at, { ...line, ys: line.raw, dash: [] }, ratio, FAINT * alpha);
  }
  const hasBest = lines.some((line) => line.isBest);
  const faded = hasBest ? Math.min(alpha, OTHERS) : alpha;
  for (const line of lines) paintLine(context, at, line, ratio, line.isBest ? 1 : faded);
  for (const band of bands) paintLine(context, at, { ...band, ys: band.mean, width: 2 }, ratio, 1);
  context.restore();
}

/** Draws a line with its marks. */
export function paintLine(context, at, line, ratio, alpha) {
  const { runs, gaps, marks } = traced(line, at);
  context.globalAlpha = alpha;
  context.strokeStyle = line.color;
  context.fillStyle = line.color;
  context.lineWidth = (line.width ?? 1.5) * ratio;
  context.setLineDash((line.dash ?? []).map((length) => length * ratio));
  context.beginPath();
  for (const run of runs) trace(context, run);
  context.stroke();
  paintDots(context, runs, ratio);
  context.setLineDash([ratio, 3 * ratio]);
  context.lineWidth = ratio;
  context.beginPath();
  for (const gap of gaps) trace(context, gap);
  context.stroke();
  context.setLineDash([]);
  // The mean of a group is missing where no session is: that is no NaN.
  if (!line.mean) paintMarks(context, at, marks, ratio);
  context.globalAlpha = 1;
}

/**
 * Returns the segments of a line in pixels.
 *
 * Runs are flat lists of x and y; gaps join the runs where values are missing; marks stand for
 * values that are no finite numbers.
 */
export function traced({ xs, ys, gap = Infinity }, at) {
  const runs = [];
  const gaps = [];
  const marks = [];
  /** @type {number[] | null} */
  let run = null;
  let last = 0;
  for (let i = 0; i < xs.length; i += 1) {
    const value = ys[i];
    if (!Number.isFinite(value) || (at.isLog && value <= 0)) {
      if (!Number.isFinite(value)) marks.push([at.x(xs[i]), value]);
      run = null;
      continue;
    }
    const x = at.x(xs[i]);
    const y = at.y(value);
    if (run && xs[i] - last > gap) {
      gaps.push([...run.slice(-2), x, y]);
      run = null;
    }
    if (!run) runs.push((run = []));
    run.push(x, y);
    last = xs[i];
  }
  return { runs, gaps, marks };
}

function trace(context, points) {
  context.moveTo(points[0], points[1]);
  for (let i = 2; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
}

/** A value without neighbors has no line: it is a dot. */
function paintDots(context, runs, ratio) {
  for (const run of runs) {
    if (run.length > 2) continue;
    context.beginPath();
    context.arc(run[0], run[1], (runs.length > 1 ? DOT : ALONE) * ratio, 0, 2 * Math.PI);
    context.fill();
  }
}

/** A cross at the lower edge is NaN; an arrow at an edge points to an infinity. */
function paintMarks(context, at, marks, ratio) {
  const size = MARK * ratio;
  let before = -Infinity;
  context.lineWidth = 1.5 * ratio;
  for (const [x, value] of marks) {
    if (x - before < size) continue;
    before = x;
    context.beginPath();
    if (Number.isNaN(value)) cross(context, x, at.bottom - size - 2 * ratio, size);
    else if (value > 0) arrow(context, x, at.top + 2 * ratio, size);
    else arrow(context, x, at.bottom - 2 * ratio, -size);
    context.stroke();
  }
}

function cross(context, x, y, size) {
  context.moveTo(x - size, y - size);
  context.lineTo(x + size, y + size);
  context.moveTo(x + size, y - size);
  context.lineTo(x - size, y + size);
}

function arrow(context, x, y, size) {
  context.moveTo(x - size, y + size);
  context.lineTo(x, y);
  context.lineTo(x + size, y + size);
}

function paintBand(context, at, { xs, low, high, color }) {
  const clear = (value) => Number.isFinite(value) && (!at.isLog || value > 0);
  const lowest = (value) => (clear(value) ? at.y(value) : at.bottom);
  const inside = [...xs.keys()].filter((i) => clear(high[i]));
  if (inside.length < 2) return;
  context.globalAlpha = 0.16;
  context.fillStyle = color;
  context.beginPath();
  for (const i of inside) context.lineTo(at.x(xs[i]), at.y(high[i]));
  for (const i of inside.reverse()) context.lineTo(at.x(xs[i]), lowest(low[i]));
  context.fill();
  context.globalAlpha = 1;
}
