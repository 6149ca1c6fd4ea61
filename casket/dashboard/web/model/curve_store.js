import { signal } from "@preact/signals";

import { restored } from "casket/model/facts";

/** @typedef {import("casket/types").Curve} Curve */
/** @typedef {import("casket/types").CurvesView} CurvesView */
/** @typedef {import("casket/types").Row} Row */

const KEPT_VIEWS = 4;
const PAUSE = 700;
const PAUSE_AFTER_FAILURE = 3000;
const NONE = new Float64Array();

/** @type {Readonly<Curve>} */
const EMPTY = Object.freeze({
  xs: NONE, ys: NONE, count: 0, shown: 0, leftOut: 0, seen: 0, isHere: false,
});

/** Caches requested curves, and requests only missing or new points. */
export class CurveStore {
  /** Grows when curves came or could not, once a frame at most. */
  arrivals = signal(0);
  #source;
  #views = new Map();
  #wants = [];
  #timer;
  #frame = 0;
  #lastRefresh = 0;
  #later;

  /** @param {import("casket/types").Source} source */
  constructor(source) {
    this.#source = source;
  }

  /**
   * Returns a function from session and metric to the curve of a view that is here, if it is.
   *
   * @param {CurvesView} view
   * @returns {(session: string, metric: string) => Curve | undefined}
   */
  reader(view) {
    const curves = this.#views.get(keyOf(view))?.curves;
    return (session, metric) => curves?.get(metric)?.get(session);
  }

  /** Returns the error of a view's last request; empty if it succeeded. */
  problem(view) {
    return this.#views.get(keyOf(view))?.problem ?? "";
  }

  /**
   * Asks for the curves of rows that are not here or have grown.
   *
   * Simultaneous requests are combined.
   *
   * @param {CurvesView} view
   * @param {string[]} metrics
   * @param {Row[]} rows
   */
  want(view, metrics, rows) {
    this.#wants.push({ view, metrics, rows });
    this.#timer ??= setTimeout(() => this.#flush(), 0);
  }

  #flush() {
    this.#timer = undefined;
    const jobs = new Map();
    for (const want of this.#wants.splice(0)) this.#plan(want, jobs);
    for (const job of jobs.values()) this.#ask(job);
  }

  #plan({ view, metrics, rows }, jobs) {
    const known = this.#view(view);
    if (Date.now() < known.retryAt) return this.#tellIn(known.retryAt - Date.now());
    for (const metric of metrics) {
      const curves = curvesOf(known, metric);
      for (const row of rows) {
        const found = curves.get(row.key);
        if (found?.isAsked || (found && found.seen >= countOf(row, view))) continue;
        const isNew = !found || found.isStale;
        if (isNew || this.#mayRefresh()) addTo(jobs, { view, metric, row, isNew, found });
      }
    }
    return undefined;
  }

  /** A running session is asked for again after a pause, however often it logs. */
  #mayRefresh() {
    const wait = this.#lastRefresh + PAUSE - Date.now();
    if (wait <= 0) return true;
    this.#tellIn(wait);
    return false;
  }

  #tellIn(wait) {
    this.#later ??= setTimeout(() => {
      this.#later = undefined;
      this.#tell();
    }, wait);
  }

  async #ask({ view, isNew, metrics, rows, since }) {
    const known = this.#view(view);
    if (!isNew) this.#lastRefresh = Date.now();
    const asked = [];
    for (const metric of metrics) {
      const curves = curvesOf(known, metric);
      for (const row of rows.values()) {
        const before = curves.get(row.key);
        if (isNew && before && !before.isStale) continue;
        asked.push({ curves, row });
        curves.set(row.key, { ...(before ?? EMPTY), isAsked: true });
      }
    }
    try {
      const question = { metrics: [...metrics], sessions: [...rows.keys()], ...view };
      const answer = await this.#source.curves(isNew ? question : { ...question, since });
      known.problem = "";
      for (const one of asked) settle(one, view);
      for (const curve of answer.curves) take(known, curve, answer.xs, since, view.points);
    } catch (error) {
      known.problem = error.message;
      known.retryAt = Date.now() + PAUSE_AFTER_FAILURE;
      for (const one of asked) giveUp(one);
    }
    this.#tell();
  }

  #view(view) {
    const key = keyOf(view);
    const known = this.#views.get(key) ?? { curves: new Map(), problem: "", retryAt: 0 };
    this.#views.delete(key);
    this.#views.set(key, known);
    for (const old of this.#views.keys()) {
      if (this.#views.size <= KEPT_VIEWS) break;
      this.#views.delete(old);
    }
    return known;
  }

  #tell() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.arrivals.value += 1;
    });
  }
}

function addTo(jobs, { view, metric, row, isNew, found }) {
  const name = `${keyOf(view)} ${isNew}`;
  if (!jobs.has(name)) {
    jobs.set(name, { view, isNew, metrics: new Set(), rows: new Map(), since: {} });
  }
  const job = jobs.get(name);
  job.metrics.add(metric);
  job.rows.set(row.key, row);
  if (!isNew) job.since[row.key] = Math.min(job.since[row.key] ?? Infinity, found.seen);
}

/** A requested curve that was not returned has no values, and is not requested again. */
function settle({ curves, row }, view) {
  const curve = curves.get(row.key);
  const seen = Math.max(curve.seen, countOf(row, view));
  curves.set(row.key, { ...curve, isAsked: false, isHere: true, isStale: false, seen });
}

function giveUp({ curves, row }) {
  const curve = curves.get(row.key);
  if (curve.isHere) curves.set(row.key, { ...curve, isAsked: false });
  else curves.delete(row.key);
}

function take(known, curve, xs, since, points) {
  const curves = curvesOf(known, curve.metric);
  const before = curves.get(curve.session) ?? EMPTY;
  const came = { ...withoutMissing(xs[curve.x], curve.y), ...figures(curve) };
  /** @type {Curve} */
  const now = curve.continues ? continued(before, came, since[curve.session]) : came;
  const isTooLong = now.xs.length > 2 * points;
  curves.set(curve.session, {
    ...now,
    seen: curve.seen ?? before.seen,
    isHere: true,
    isAsked: false,
    isStale: now.isStale || (isTooLong && curve.continues),
  });
}

function continued(before, came, since) {
  const last = before.xs.length ? before.xs[before.xs.length - 1] : -Infinity;
  const isRepeated = came.xs.length > 0 && came.xs[0] <= last;
  // Points of another chart's older request are skipped; an epoch that was logged again is not.
  const from = before.seen > since ? came.xs.findIndex((x) => x > last) : 0;
  const start = from < 0 ? came.xs.length : from;
  return {
    xs: joined(before.xs, came.xs.slice(start)),
    ys: joined(before.ys, came.ys.slice(start)),
    count: before.count + came.xs.length - start,
    shown: before.shown + came.xs.length - start,
    leftOut: before.leftOut + came.leftOut,
    isStale: isRepeated && start === 0,
  };
}

function withoutMissing(xs, ys) {
  /** @type {{xs: number[], ys: number[]}} */
  const own = { xs: [], ys: [] };
  ys.forEach((y, i) => {
    if (y === null || Number.isNaN(xs[i])) return;
    own.xs.push(xs[i]);
    own.ys.push(restored(y));
  });
  return { xs: Float64Array.from(own.xs), ys: Float64Array.from(own.ys) };
}

function joined(a, b) {
  const both = new Float64Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function figures({ count, shown, left_out: leftOut = 0 }) {
  return { count, shown, leftOut };
}

function curvesOf(known, metric) {
  if (!known.curves.has(metric)) known.curves.set(metric, new Map());
  return known.curves.get(metric);
}

function countOf(row, { kind }) {
  return row.counts?.[kind] ?? 0;
}

function keyOf({ kind, x, points, range }) {
  return `${kind} ${x} ${points} ${range}`;
}
