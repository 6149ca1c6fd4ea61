import { batch, computed, signal } from "@preact/signals";

import { learnMetrics } from "casket/model/facts";

/** @typedef {import("casket/types").Row} Row */
/** @typedef {import("casket/types").Source} Source */

/** The page's data: the response to the first request, kept up to date by events. */
export class Data {
  /** "asking" until the first answer, then "ready"; "failed" if there was none. */
  state = signal("asking");
  error = signal("");
  /** "live", "lost" while the server does not answer, "still" where nothing can change. */
  connection = signal("still");
  files = signal(/** @type {import("casket/types").File[]} */ ([]));
  experiments = signal([]);
  maxPoints = signal(1000);
  /** All sessions, children of others included. */
  all = computed(() => [...this.#byKey.value.values()]);
  /** The sessions that are not children of others. */
  rows = computed(() => this.all.value.filter((row) => !this.parentOf(row)));
  /** Incremented when sessions come or go, which changes their common params. */
  generation = signal(0);
  #children = computed(() => {
    const children = new Map();
    for (const row of this.all.value) {
      const parent = this.parentOf(row);
      if (parent) children.set(parent.key, [...(children.get(parent.key) ?? []), row]);
    }
    return children;
  });
  /** The best values of metrics whose direction the reader has chosen, by metric and key. */
  bests = signal(/** @type {Record<string, Record<string, number>>} */ ({}));
  /** The rows as they were sent, by key. */
  sent = signal(/** @type {Map<string, Row>} */ (new Map()));
  #byKey = computed(() => withBests(this.sent.value, Object.entries(this.bests.value)));
  #source;
  #listening = false;

  /** @param {Source} source */
  constructor(source) {
    this.#source = source;
  }

  /** Requests everything, and then the changes. */
  async start() {
    try {
      this.#takeAll(await this.#source.overview());
    } catch (error) {
      this.#fail(error);
      setTimeout(() => this.start(), 3000);
      return;
    }
    if (this.#source.isLive && !this.#listening) {
      this.#listening = true;
      this.#source.listen((event) => this.#take(event));
    }
  }

  /**
   * Returns the row of a key.
   *
   * @param {string} key
   */
  row(key) {
    return this.#byKey.value.get(key);
  }

  /**
   * Returns the session that another is a child of, if it is here.
   *
   * @param {Row} row
   */
  parentOf(row) {
    return row.parent ? this.row(`${row.file}.${row.parent}`) : undefined;
  }

  /**
   * Returns the children of a session, in order of their start.
   *
   * @param {string} key
   * @returns {Row[]}
   */
  childrenOf(key) {
    return this.#children.value.get(key) ?? [];
  }

  /**
   * Takes rows that were changed, by others or by this page, and the keys of those that are gone.
   *
   * @param {Row[]} rows
   * @param {string[]} [removed]
   */
  takeRows(rows, removed = []) {
    const before = this.sent.peek();
    const byKey = new Map(before);
    for (const row of rows) byKey.set(row.key, this.#named(row));
    const hasNew = byKey.size > before.size;
    for (const key of removed) byKey.delete(key);
    batch(() => {
      if (hasNew || removed.length) this.generation.value += 1;
      this.sent.value = byKey;
    });
  }

  #takeAll({ max_points: maxPoints, files, experiments, sessions, metrics }) {
    learnMetrics(metrics);
    batch(() => {
      this.maxPoints.value = maxPoints;
      this.files.value = files;
      this.experiments.value = experiments;
      this.sent.value = new Map(sessions.map((row) => [row.key, this.#named(row)]));
      this.generation.value += 1;
      this.state.value = "ready";
      this.error.value = "";
    });
  }

  #named(row) {
    return { ...row, fileName: this.files.peek()[row.file]?.name };
  }

  #take({ type, data }) {
    if (type === "reload") this.start();
    else if (type === "sessions") {
      learnMetrics(data.metrics);
      this.takeRows(data.sessions, data.removed);
    }
    else if (type === "lost") this.connection.value = "lost";
    else if (type === "found") this.connection.value = "live";
    else this[type].value = data[type] ?? data;
  }

  #fail(error) {
    if (this.state.peek() !== "ready") this.state.value = "failed";
    this.error.value = error.message;
  }
}

function withBests(rows, bests) {
  if (!bests.length) return rows;
  const whole = (row) => {
    const own = bests.filter(([, byKey]) => row.key in byKey);
    return { ...row, best: { ...row.best, ...Object.fromEntries(own.map(([name, byKey]) => [name, byKey[row.key]])) } };
  };
  return new Map([...rows].map(([key, row]) => [key, whole(row)]));
}
