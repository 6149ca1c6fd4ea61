import uPlot from "uplot";

import { shownDuration, shownNumber, shownTime } from "casket/model/facts";
import { labels, labelsOfX, logTicks, ticks, ticksOfX } from "casket/model/axis";
import { paint, paintLine, scales } from "casket/curves/painter";
import { contextOf } from "casket/shell/html";

const KEY_STEP = 0.02;
const TICK_ROOM = 44;
const DIGITS = 5;
const ROOM_OF_X = { number: 60, metric: 60, time: 90, wall: 96 };

/**
 * A chart: uPlot has the axes, the cursor and the zoom; the lines are drawn by the painter, each
 * over its own numbers, so that a thousand curves need not be brought onto a common axis first.
 */
export class Chart {
  #host;
  #calls;
  #plot;
  #drawing;
  #shape = "";
  #overlay;
  #lifted = "";
  #isFollowing = false;
  #sizes;

  /** `calls`: onZoom([from, to] or null), onCursor({x, y} or null), onPick(event). */
  constructor(host, calls) {
    this.#host = host;
    this.#calls = calls;
    this.#sizes = new ResizeObserver(() => this.#fit());
    this.#sizes.observe(host);
    host.addEventListener("keydown", (event) => this.#onKey(event));
    host.addEventListener("pointermove", (event) => this.#onTouch(event));
    host.addEventListener("pointerdown", (event) => this.#onTouch(event));
  }

  /** Draws a drawing, as made by `casket/drawing`. */
  show(drawing) {
    this.#drawing = drawing;
    const shape = [drawing.isLog, drawing.x, drawing.scheme].join();
    if (shape !== this.#shape) this.#build(shape);
    else this.#plot.setData(corners(drawing));
  }

  /** Puts the cursor at a number, as another chart's cursor moves; null takes it away. */
  follow(x) {
    if (!this.#plot) return;
    this.#isFollowing = true;
    const left = x === null ? -10 : this.#plot.valToPos(x, "x");
    this.#plot.setCursor({ left, top: x === null ? -10 : 1 });
    this.#isFollowing = false;
  }

  /** Draws the lines of a session or group over all others; empty: of none. */
  lift(key) {
    this.#lifted = key;
    this.#paintLifted();
  }

  /** Returns how far each line is from a point, in pixels, nearest first: `[[key, distance]]`. */
  nearest({ x, y }) {
    const at = this.#scales();
    const level = at.y(y);
    const distances = new Map();
    for (const line of [...this.#drawing.bands, ...this.#drawing.lines]) {
      const value = valueAt(line, x);
      if (!Number.isFinite(value)) continue;
      const distance = Math.abs(at.y(value) - level);
      if (!(distance >= distances.get(line.key))) distances.set(line.key, distance);
    }
    return [...distances].sort((a, b) => a[1] - b[1]);
  }

  /** Frees everything. */
  destroy() {
    this.#sizes.disconnect();
    this.#plot?.destroy();
  }

  #build(shape) {
    this.#plot?.destroy();
    this.#shape = shape;
    const drawing = this.#drawing;
    this.#overlay = document.createElement("canvas");
    this.#overlay.className = "lifted";
    this.#plot = new uPlot(
      {
        ...this.#size(),
        legend: { show: false },
        padding: [10, 12, 0, 0],
        scales: {
          x: { time: false, range: () => this.#drawing.extent.x },
          y: { distr: drawing.isLog ? 3 : 1, range: () => this.#drawing.extent.y },
        },
        axes: axes(drawing),
        series: [{}, { paths: () => null, points: { show: false } }],
        cursor: {
          y: false,
          points: { show: false },
          drag: { x: true, y: false, setScale: false, dist: 6 },
          bind: { dblclick: () => () => this.#calls.onZoom(null) },
        },
        hooks: {
          draw: [() => this.#paint()],
          setSelect: [(plot) => this.#onSelect(plot)],
          setCursor: [(plot) => this.#onCursor(plot)],
        },
      },
      corners(drawing),
      this.#host,
    );
    this.#plot.over.append(this.#overlay);
    this.#plot.over.addEventListener("click", (event) => event.detail < 2 && this.#calls.onPick(event));
  }

  #size() {
    return {
      width: Math.max(this.#host.clientWidth, 120),
      height: Math.max(this.#host.clientHeight, 90),
    };
  }

  #fit() {
    if (this.#plot) this.#plot.setSize(this.#size());
  }

  #scales() {
    const { extent, isLog } = this.#drawing;
    return scales(this.#plot.bbox, extent.x, extent.y, isLog);
  }

  #paint() {
    const { ctx, bbox } = this.#plot;
    paint(ctx, bbox, this.#scales(), this.#drawing, devicePixelRatio);
    this.#paintLifted();
  }

  #paintLifted() {
    if (!this.#plot) return;
    const { width, height } = this.#plot.bbox;
    const overlay = this.#overlay;
    overlay.width = this.#lifted ? width : 0;
    overlay.height = this.#lifted ? height : 0;
    if (!this.#lifted) return;
    const { extent, isLog, lines, bands } = this.#drawing;
    const at = scales({ left: 0, top: 0, width, height }, extent.x, extent.y, isLog);
    const context = contextOf(overlay);
    for (const line of [...lines, ...bands]) {
      if (line.key !== this.#lifted) continue;
      const lifted = { ...line, ys: line.mean ?? line.ys, width: 3 };
      paintLine(context, at, lifted, devicePixelRatio, 1);
    }
  }

  #onSelect(plot) {
    const { left, width } = plot.select;
    if (width < 2) return;
    const range = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.#calls.onZoom(range);
  }

  #onCursor(plot) {
    if (this.#isFollowing) return;
    const { left, top } = plot.cursor;
    const isInside = left >= 0 && top >= 0;
    const at = isInside && { x: plot.posToVal(left, "x"), y: plot.posToVal(top, "y") };
    this.#calls.onCursor(at || null);
  }

  #onTouch(event) {
    if (event.pointerType !== "touch" || !this.#plot) return;
    const box = this.#plot.over.getBoundingClientRect();
    this.#plot.setCursor({ left: event.clientX - box.left, top: event.clientY - box.top });
  }

  #onKey(event) {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.#calls.onCursor(null);
    if (event.key === "0") this.#calls.onZoom(null);
    if (event.key === "+") this.#zoomIn();
    if (event.key === "Enter") this.#calls.onPick(event);
    if (!direction || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const width = this.#plot.over.clientWidth;
    const from = this.#plot.cursor.left >= 0 ? this.#plot.cursor.left : width / 2;
    const left = Math.min(Math.max(from + direction * width * KEY_STEP, 0), width);
    this.#plot.setCursor({ left, top: this.#plot.over.clientHeight / 2 });
  }

  #zoomIn() {
    const [from, to] = this.#drawing.extent.x;
    const { left } = this.#plot.cursor;
    const middle = left >= 0 ? this.#plot.posToVal(left, "x") : (from + to) / 2;
    const reach = (to - from) / 4;
    this.#calls.onZoom([Math.max(middle - reach, from), Math.min(middle + reach, to)]);
  }
}

/** Returns the index of the number nearest to x among growing ones. */
function nearestIndex(xs, x) {
  let low = 0;
  let high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle;
    else high = middle;
  }
  return Math.abs(xs[high] - x) < Math.abs(xs[low] - x) ? high : low;
}

/** Returns the index of a line's point nearest to x; undefined where the line has none there. */
export function indexAt({ xs }, x) {
  if (!xs.length) return undefined;
  const step = (xs[xs.length - 1] - xs[0]) / xs.length;
  if (x < xs[0] - step || x > xs[xs.length - 1] + step) return undefined;
  return nearestIndex(xs, x);
}

/** Returns a line's value at its point nearest to x; undefined where the line has none there. */
function valueAt(line, x) {
  const at = indexAt(line, x);
  return at === undefined ? undefined : (line.mean ?? line.ys)[at];
}

/** Returns a value of the x axis for display. */
export function shownX(value, x) {
  if (x === "time") return shownDuration(value);
  if (x === "wall") return shownTime(value * 1000).slice(5);
  return x === "metric" ? shownNumber(value, DIGITS) : String(Math.round(value));
}

function corners({ extent: { x, y } }) {
  return [x, y];
}

function axes({ x, colors, isLog }) {
  const common = {
    stroke: colors.text,
    font: `11px ${colors.font}`,
    grid: { stroke: colors.grid, width: 1 },
    ticks: { stroke: colors.grid, width: 1, size: 4 },
    gap: 4,
  };
  const room = ROOM_OF_X[x];
  return [
    {
      ...common,
      size: 26,
      space: room,
      splits: ({ width }, _axis, low, high) => ticksOfX([low, high], width / room, x),
      filter: (_, splits) => splits,
      values: (_, values) => labelsOfX(values, x),
    },
    {
      ...common,
      space: 28,
      size: (_, values) => 16 + 6.2 * Math.max(3, ...(values ?? []).map(lengthOf)),
      splits: ({ height }, _axis, low, high) =>
        isLog ? logTicks([low, high]) : ticks([low, high], height / TICK_ROOM),
      filter: (_, splits) => splits,
      values: (_, values) => labels(values),
    },
  ];
}

function lengthOf(text) {
  return String(text ?? "").length;
}
