import { signal } from "@preact/signals";

/** @type {Readonly<{place: any, lifted: string}>} */
const NOWHERE = Object.freeze({ place: null, lifted: "" });

/** State shared by all charts: the position of the cursor, and the highlighted session. */
export class Cursor {
  /**
   * `{place, lifted}`, changed once a frame at most. The place is `{x, order, chart, isNear}`,
   * `order` being keys, the nearest first, or null where the cursor is in no chart.
   */
  now = signal(NOWHERE);
  #next = NOWHERE;
  #frame = 0;

  move(place) {
    this.#set({ place, lifted: place?.isNear ? place.order[0] : "" });
  }

  lift(key) {
    this.#set({ ...this.#next, lifted: key });
  }

  #set(next) {
    this.#next = next;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.now.value = this.#next;
    });
  }
}
