import { useEffect } from "preact/hooks";

import { better, isNumber } from "casket/model/facts";
import { store } from "casket/model/page";
import { html } from "casket/shell/html";

const [WIDTH, HEIGHT, EDGE] = [60, 20, 3];

/**
 * What is asked for of a curve that is as small as a word.
 *
 * @type {import("casket/types").CurvesView}
 */
export const SMALL = { kind: "epoch", x: "number", points: 60, range: null };

/** A curve as small as a word, its best point marked; dashed beside it, another's. */
export function Sparkline({ curve, other, mode, color = "" }) {
  const own = pointsOf(curve);
  const beside = other ? pointsOf(other) : [];
  if (!own.length) return null;
  const all = [...own, ...beside];
  const place = placing(all);
  const best = own.reduce((a, b) => ((mode === "min" ? b[1] <= a[1] : b[1] >= a[1]) ? b : a));
  const [x, y] = place(mode ? best : own[own.length - 1]);
  return html`<svg class="sparkline" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true" style=${{ color }}>
    ${beside.length > 0 && html`<path class="is-other" d=${pathOf(beside.map(place))} />`}
    <path d=${pathOf(own.map(place))} />
    <circle cx=${x} cy=${y} r="2" />
  </svg>`;
}

function pointsOf({ xs, ys }) {
  return Array.from(xs, (x, i) => [x, ys[i]]).filter(([, y]) => isNumber(y));
}

function placing(points) {
  const [x, y] = [0, 1].map((at) => scaled(points.map((point) => point[at])));
  return (point) => [EDGE + x(point[0]) * (WIDTH - 2 * EDGE), HEIGHT - EDGE - y(point[1]) * (HEIGHT - 2 * EDGE)];
}

/** Returns a function from numbers to shares of their range. */
function scaled(numbers) {
  const low = numbers.reduce((a, b) => Math.min(a, b));
  const high = numbers.reduce((a, b) => Math.max(a, b));
  return (number) => (high > low ? (number - low) / (high - low) : 0.5);
}

function pathOf(places) {
  return `M${places.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;
}

/** The curve of a metric of a session, when it is here. */
export function CurveOf({ row, metric, color }) {
  const arrivals = store.arrivals.value;
  useEffect(() => store.want(SMALL, [metric], [row]), [row, metric, arrivals]);
  const curve = store.reader(SMALL)(row.key, metric);
  return curve && html`<${Sparkline} curve=${curve} mode=${better(metric)} color=${color} />`;
}
