import { useEffect, useState } from "preact/hooks";

const LIGHT = [
  "#2563c9", "#c8500a", "#118246", "#b0279c", "#8a6a00",
  "#0b8394", "#d0303f", "#6d4bd0", "#5c7a12", "#5f6b7a",
];
const DARK = [
  "#6ea8ff", "#ff9a52", "#4fd08a", "#f07fe0", "#e0bd3c",
  "#4fd0e0", "#ff7b85", "#b39bff", "#a9cf4e", "#b4bfcc",
];
const GOLDEN_ANGLE = 137.508;

/** Gives what is drawn together colours that differ, and keeps to them while the page is open. */
export class Colours {
  #slots = new Map();

  /** Gives a colour to each key that has none yet. */
  assign(keys) {
    const used = new Set(keys.map((key) => this.#slots.get(key)));
    let next = 0;
    for (const key of keys) {
      if (this.#slots.has(key)) continue;
      while (used.has(next)) next += 1;
      used.add(next);
      this.#slots.set(key, next);
    }
  }

  /** Returns the colour of a key as CSS. */
  of(key, scheme) {
    if (!this.#slots.has(key)) this.#slots.set(key, this.#slots.size);
    const slot = this.#slots.get(key);
    const palette = scheme === "dark" ? DARK : LIGHT;
    if (slot < palette.length) return palette[slot];
    const lightness = scheme === "dark" ? 68 : 38;
    return `hsl(${Math.round((slot * GOLDEN_ANGLE) % 360)} 60% ${lightness}%)`;
  }
}

/** Returns "dark" or "light", as the system says now. */
export function useScheme() {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [isDark, setDark] = useState(query.matches);
  useEffect(() => {
    const change = (event) => setDark(event.matches);
    query.addEventListener("change", change);
    return () => query.removeEventListener("change", change);
  }, []);
  return isDark ? "dark" : "light";
}
