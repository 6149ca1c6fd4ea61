import { hashOf } from "casket/model/hash";

const LIGHT = [
  "#6370e2", "#a94406", "#3d6e5c", "#df6794", "#a2950f",
  "#7b3c9d", "#11a0d3", "#830103", "#59006f", "#3a424a",
];
const DARK = [
  "#4c7be9", "#fc8b11", "#00c678", "#f0abc4", "#f0e968",
  "#ad97fd", "#b3eeff", "#cc4b15", "#ae4eab", "#8d8882",
];
const GOLDEN_ANGLE = 137.508;

/**
 * Assigns different colors to sessions that are drawn together.
 *
 * A key wants the slot that follows from it alone, so that it has the same color in every file,
 * report and browser. Where another has it already, it takes the next free one, and keeps that as
 * long as the page is open: a further session changes none of the others.
 */
export class Colors {
  #slots = new Map();

  /** Assigns colors to the drawn sessions, in their order. */
  assign(drawn) {
    const used = new Set();
    const without = drawn.filter((key) => {
      const slot = this.#slots.get(key);
      if (slot === undefined || used.has(slot)) return true;
      used.add(slot);
      return false;
    });
    for (const key of without) {
      const slot = freeSlot(wantedSlot(key), used);
      used.add(slot);
      this.#slots.set(key, slot);
    }
  }

  /** Reserves the slots of an address, as `3~key`. */
  remember(list) {
    for (const each of list) {
      const [, slot, key] = /^(\d)~(.+)$/.exec(each) ?? [];
      if (key) this.#slots.set(key, Number(slot));
    }
  }

  /** Returns which slots of some keys do not follow from the keys alone, as `3~key`. */
  displaced(keys) {
    return keys
      .filter((key) => this.#slots.has(key) && this.#slots.get(key) !== wantedSlot(key))
      .filter((key) => this.#slots.get(key) < LIGHT.length)
      .map((key) => `${this.#slots.get(key)}~${key}`);
  }

  /** Returns the color of a key as CSS. */
  of(key, scheme) {
    const slot = this.#slots.get(key) ?? wantedSlot(key);
    const palette = scheme === "dark" ? DARK : LIGHT;
    if (slot < palette.length) return palette[slot];
    const lightness = scheme === "dark" ? 68 : 38;
    return `hsl(${Math.round((slot * GOLDEN_ANGLE) % 360)} 60% ${lightness}%)`;
  }
}

/** Returns the slot that follows from a key; the index of the file before an id counts not. */
function wantedSlot(key) {
  return hashOf(key.replace(/^\d+\./, "")) % LIGHT.length;
}

/** Returns the wanted slot or the next free slot; if all ten are used, a further slot. */
function freeSlot(wanted, used) {
  const count = LIGHT.length;
  let step = Math.floor(used.size / count) * count;
  const slotAt = () => step - (step % count) + ((wanted + step) % count);
  while (used.has(slotAt())) step += 1;
  return slotAt();
}
