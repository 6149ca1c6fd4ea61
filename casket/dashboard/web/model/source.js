// The source of the data: a server, or a report that contains them.

import { isNumber, restored } from "casket/model/facts";
import { csv } from "casket/model/files";

const WAITS = [1000, 2000, 5000, 10000];

/**
 * Returns the source of this page: the data inside it, else the server it came from.
 *
 * @returns {import("casket/types").Source}
 */
export function source() {
  const embedded = document.getElementById("casket-data");
  return embedded ? new EmbeddedSource(JSON.parse(embedded.textContent)) : new ServerSource();
}

/** A request that failed, with the reason. */
export class Unanswered extends Error {
  constructor(message, isLost) {
    super(message);
    this.isLost = isLost;
  }
}

/** Asks the server that the page came from. */
export class ServerSource {
  isEditable = false;
  isLive = true;
  #cursor = "";

  async overview() {
    const answer = await ask("./api/overview");
    this.isEditable = answer.edit;
    this.#cursor = answer.cursor;
    return { ...answer, sessions: answer.sessions.map(whole) };
  }

  /** Returns by key the `last` and `best` of sessions' rows, with all digits. */
  values() {
    return ask("./api/values");
  }

  sweeps() {
    return ask("./api/sweeps");
  }

  /** Returns by key the lowest or highest value of a metric of each session that has it. */
  best(metric, mode) {
    return ask(`./api/best?${new URLSearchParams({ metric, mode })}`);
  }

  async curves(question) {
    const { xs, curves } = await ask("./api/curves", question);
    return { xs: xs.map((numbers) => (numbers.steps ? summed(numbers.steps) : numbers)), curves };
  }

  async csvOfCurves(question) {
    return (await respond("./api/curves.csv", question)).blob();
  }

  session(key) {
    return ask(`./api/session/${encodeURIComponent(key)}`);
  }

  rows(key, kind, from = 0, limit = 200) {
    const query = new URLSearchParams({ kind, from: String(from), limit: String(limit) });
    return ask(`./api/session/${encodeURIComponent(key)}/rows?${query}`);
  }

  async csvOfRows(key, kind) {
    const query = new URLSearchParams({ kind });
    return (await respond(`./api/session/${encodeURIComponent(key)}/rows.csv?${query}`)).blob();
  }

  heatmap(key) {
    return ask(`./api/heatmap?${new URLSearchParams({ session: key })}`);
  }

  async annotate(key, change) {
    return whole(await ask(`./api/session/${encodeURIComponent(key)}/annotate`, change));
  }

  /**
   * Reports changes, and when the server is "lost" and "found" again; returns a function to stop.
   *
   * A page that is not seen lets go of its connection, for a browser has few for each server.
   */
  listen(onEvent) {
    let events;
    let timer;
    let failures = 0;
    const take = (event) => {
      this.#cursor = event.lastEventId || this.#cursor;
      const data = JSON.parse(event.data || "null");
      if (event.type === "sessions") data.sessions = data.sessions.map(whole);
      onEvent({ type: event.type, data });
    };
    const close = () => {
      clearTimeout(timer);
      events?.close();
      events = undefined;
    };
    const open = () => {
      close();
      events = new EventSource(`./api/events?${new URLSearchParams({ cursor: this.#cursor })}`);
      for (const type of ["sessions", "files", "experiments", "reload"]) {
        events.addEventListener(type, take);
      }
      events.onopen = () => {
        failures = 0;
        onEvent({ type: "found" });
      };
      events.onerror = () => {
        close();
        onEvent({ type: "lost" });
        timer = setTimeout(open, WAITS[Math.min(failures, WAITS.length - 1)]);
        failures += 1;
      };
    };
    const look = () => (document.hidden ? close() : open());
    const retry = () => {
      failures = 0;
      open();
    };
    look();
    document.addEventListener("visibilitychange", look);
    addEventListener("online", retry);
    return () => {
      close();
      document.removeEventListener("visibilitychange", look);
      removeEventListener("online", retry);
    };
  }
}

/** Answers from the data inside a report. */
export class EmbeddedSource {
  isEditable = false;
  isLive = false;
  #data;

  constructor(data) {
    this.#data = data;
  }

  async overview() {
    const { overview } = this.#data;
    return { ...overview, sessions: overview.sessions.map(whole) };
  }

  /** Returns nothing: the rows of a report have all digits. */
  async values() {
    return {};
  }

  async sweeps() {
    return this.#data.sweeps;
  }

  async best(metric, mode) {
    const { sessions } = this.#data.overview;
    const best = Object.fromEntries(sessions.map(({ key, last }) => [key, restored(last[metric])]));
    for (const { session, metric: name, y } of this.#data.curves?.epoch?.curves ?? []) {
      if (name === metric) best[session] = y.map(restored).filter(isNumber).reduce(mode === "min" ? lower : higher, NaN);
    }
    return Object.fromEntries(Object.entries(best).filter(([, value]) => isNumber(value)));
  }

  async curves({ metrics, sessions, kind, x, range }) {
    const { xs = [], times = [], curves = [] } = this.#data.curves?.[kind] ?? {};
    const wanted = { metrics: new Set(metrics), sessions: new Set(sessions) };
    /** @type {{xs: number[][], curves: any[]}} */
    const answer = { xs: [], curves: [] };
    for (const curve of curves) {
      if (!wanted.metrics.has(curve.metric) || !wanted.sessions.has(curve.session)) continue;
      const start = x === "wall" ? this.#started(curve.session) : 0;
      const own = x === "number" ? xs[curve.x] : times[curve.times ?? curve.x];
      const [from, to] = range ? span(own, range, start) : [0, own.length];
      // Points without a time have no position on an axis of time.
      answer.xs.push(own.slice(from, to).map((value) => (value === null ? NaN : value + start)));
      answer.curves.push({ ...curve, y: curve.y.slice(from, to), x: answer.xs.length - 1 });
    }
    return answer;
  }

  async csvOfCurves(question) {
    const { xs, curves } = await this.curves(question);
    const rows = curves.flatMap(({ session, metric, x, y }) =>
      y.map((value, i) => [session, metric, xs[x][i], value]),
    );
    const text = csv([["session", "metric", question.x, "value"], ...rows]);
    return new Blob([text], { type: "text/csv" });
  }

  async session(key) {
    return this.#of("sessions", key);
  }

  async rows(key, kind, from = 0, limit = 200) {
    const all = rowsOf(this.#data.curves?.[kind], key, kind);
    return { rows: all.slice(from, from + limit), count: all.length };
  }

  async csvOfRows(key, kind) {
    const rows = rowsOf(this.#data.curves?.[kind], key, kind);
    const names = [...new Set(rows.flatMap(Object.keys))];
    const text = csv([names, ...rows.map((row) => names.map((name) => row[name]))]);
    return new Blob([text], { type: "text/csv" });
  }

  async heatmap(key) {
    return this.#of("heatmaps", key);
  }

  /** @returns {Promise<import("casket/types").Row>} */
  async annotate() {
    throw new Unanswered("a report cannot be changed", false);
  }

  listen() {
    return () => undefined;
  }

  #of(table, key) {
    const found = this.#data[table]?.[key];
    if (!found) throw new Unanswered("this report does not hold that", false);
    return found;
  }

  #started(key) {
    const row = this.#data.overview.sessions.find((session) => session.key === key);
    return Date.parse(row.started) / 1000;
  }
}

/**
 * Returns a row with its derived fields.
 *
 * @returns {import("casket/types").Row}
 */
function whole(row) {
  const { key, started, ended, last_seen: lastSeen } = row;
  const duration = ended ? (Date.parse(ended) - Date.parse(started)) / 1000 : undefined;
  return { ...row, id: key.slice(key.indexOf(".") + 1), duration, last_seen: lastSeen ?? ended };
}

async function ask(address, question) {
  const response = await respond(address, question);
  try {
    return await response.json();
  } catch {
    throw new Unanswered("the answer broke off; reload the page", true);
  }
}

async function respond(address, question) {
  const options = question && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(question),
  };
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Unanswered("the server does not answer; is casket dashboard still running?", true);
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Unanswered(said.error ?? `the server answered ${response.status}`, false);
}

function summed(steps) {
  let sum = 0;
  return steps.map((step) => (sum += step));
}

/** Returns the ascending numbers that lie in a range, with a neighbor on each side. */
function span(numbers, [low, high], start) {
  const first = numbers.findIndex((value) => value + start >= low);
  const beyond = numbers.findIndex((value) => value + start > high);
  const from = first < 0 ? numbers.length - 1 : Math.max(first - 1, 0);
  return [from, beyond < 0 ? numbers.length : beyond + 1];
}

/** Joins the curves of a session into rows, a row for each number. */
function rowsOf({ xs = [], curves = [] } = {}, key, kind) {
  const rows = new Map();
  for (const { session, metric, x, y } of curves) {
    if (session !== key) continue;
    xs[x].forEach((number, i) => {
      if (y[i] === null) return;
      if (!rows.has(number)) rows.set(number, { __proto__: null, [`${kind}_num`]: number });
      rows.get(number)[metric] = restored(y[i]);
    });
  }
  return [...rows.keys()].sort((a, b) => a - b).map((number) => rows.get(number));
}

function lower(a, b) {
  return a < b ? a : b;
}

function higher(a, b) {
  return a > b ? a : b;
}
