/** What all charts share: where the cursor stands, and which session is lifted above others. */
export class Cursor {
  /** `{x, order, chart, isNear}`, order being keys, the nearest first; null: nowhere. */
  place = null;
  lifted = "";
  #listeners = new Set();
  #frame = 0;

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  move(place) {
    this.place = place;
    this.lift(place?.isNear ? place.order[0] : "");
  }

  lift(key) {
    this.lifted = key;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      for (const listener of this.#listeners) listener(this);
    });
  }
}
