const LIGHT = [
  "#2563c9", "#c8500a", "#118246", "#b0279c", "#8a6a00",
  "#0b8394", "#d0303f", "#6d4bd0", "#5c7a12", "#5f6b7a",
];
const DARK = [
  "#6ea8ff", "#ff9a52", "#4fd08a", "#f07fe0", "#e0bd3c",
  "#4fd0e0", "#ff7b85", "#b39bff", "#a9cf4e", "#b4bfcc",
];
const GOLDEN_ANGLE = 137.508;

/**
 * Gives what is drawn together colors that differ: the same ones to all who look at the same.
 *
 * Whatever began after another has the next color, so that the newest differ, and one more that
 * begins changes none of them.
 */
export class Colors {
  #wanted = new Map();
  #slots = new Map();

  /** Gives colors to what is drawn, in its order; `byAge` are lists of keys, oldest first. */
  assign(drawn, byAge) {
    this.#wanted = new Map(
      byAge.flatMap((keys) => keys.map((key, i) => [key, i % LIGHT.length])),
    );
    this.#slots = new Map();
    const used = new Set();
    for (const key of drawn) {
      const slot = freeSlot(this.#wanted.get(key) ?? 0, used);
      used.add(slot);
      this.#slots.set(key, slot);
    }
  }

  /** Returns the color of a key as CSS. */
  of(key, scheme) {
    const slot = this.#slots.get(key) ?? this.#wanted.get(key) ?? 0;
    const palette = scheme === "dark" ? DARK : LIGHT;
    if (slot < palette.length) return palette[slot];
    const lightness = scheme === "dark" ? 68 : 38;
    return `hsl(${Math.round((slot * GOLDEN_ANGLE) % 360)} 60% ${lightness}%)`;
  }
}

/** Returns the wanted slot or the next one after it; only when all ten are used, one beyond. */
function freeSlot(wanted, used) {
  const count = LIGHT.length;
  const first = used.size - (used.size % count);
  let step = 0;
  while (used.has(first + ((wanted + step) % count))) step += 1;
  return first + ((wanted + step) % count);
}
