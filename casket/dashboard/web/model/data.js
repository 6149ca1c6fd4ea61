/** What the page knows: the answer to the first question, kept up to date by events. */
export class Data {
  /** "asking" until the first answer, then "ready"; "failed" if there was none. */
  state = "asking";
  error = "";
  /** "live", "lost" while the server does not answer, "still" where nothing can change. */
  connection = "still";
  files = [];
  experiments = [];
  version = "";
  maxPoints = 1000;
  rows = [];
  /** Grows when sessions come or go: what they all were started with is another then. */
  generation = 0;
  #byKey = new Map();
  #source;
  #onChange;
  #listening = false;

  constructor(source, onChange) {
    this.#source = source;
    this.#onChange = onChange;
  }

  /** Asks for everything, and then for what changes. */
  async start() {
    try {
      this.#takeAll(await this.#source.overview());
    } catch (error) {
      this.#fail(error);
      setTimeout(() => this.start(), 3000);
      return;
    }
    this.#onChange();
    if (this.#source.isLive && !this.#listening) {
      this.#listening = true;
      this.#source.listen((event) => this.#take(event));
    }
  }

  /** Returns the row of a key. */
  row(key) {
    return this.#byKey.get(key);
  }

  /** Takes rows that were changed, by others or by this page. */
  takeRows(rows, removed = []) {
    const before = this.#byKey.size;
    for (const row of rows) this.#byKey.set(row.key, this.#named(row));
    if (this.#byKey.size > before || removed.length) this.generation += 1;
    for (const key of removed) this.#byKey.delete(key);
    this.rows = [...this.#byKey.values()];
    this.#onChange();
  }

  #takeAll({ version, max_points: maxPoints, files, experiments, sessions }) {
    Object.assign(this, { version, maxPoints, files, experiments, state: "ready", error: "" });
    this.rows = sessions.map((row) => this.#named(row));
    this.#byKey = new Map(this.rows.map((row) => [row.key, row]));
    this.generation += 1;
  }

  #named(row) {
    return { ...row, fileName: this.files[row.file]?.name };
  }

  #take({ type, data }) {
    if (type === "reload") return this.start();
    if (type === "sessions") return this.takeRows(data.sessions, data.removed);
    if (type === "lost" || type === "found") {
      const connection = type === "lost" ? "lost" : "live";
      if (connection === this.connection) return undefined;
      this.connection = connection;
    } else {
      this[type] = data[type] ?? data;
    }
    return this.#onChange();
  }

  #fail(error) {
    if (this.state !== "ready") this.state = "failed";
    this.error = error.message;
    this.#onChange();
  }
}
