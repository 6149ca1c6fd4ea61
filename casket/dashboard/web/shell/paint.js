// Colors as the system wants them now.

import { computed, signal } from "@preact/signals";

import { drawn, keysByAge } from "casket/model/listing";
import { Colors } from "casket/shell/colors";

const darkness = matchMedia("(prefers-color-scheme: dark)");
const book = new Colors();

/** "dark" or "light", as the system says now. */
export const scheme = signal(nameOf(darkness));
darkness.addEventListener("change", (event) => (scheme.value = nameOf(event)));

/** Whether fingers point rather than a mouse. */
export const isCoarse = matchMedia("(pointer: coarse)").matches;

/** The colors of charts beside their curves. */
export const colors = computed(() => {
  scheme.value; // the stylesheet follows it
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(name).trim();
  return {
    text: named("--muted"),
    grid: named("--grid-line"),
    ground: named("--ground"),
    font: "system-ui, sans-serif",
  };
});

const assigned = computed(() => {
  book.assign(drawn.value.parts.map((part) => part.key), keysByAge.value);
  return book;
});

/** Returns the color of a session or group. */
export function colorOf(key) {
  return assigned.value.of(key, scheme.value);
}

function nameOf({ matches }) {
  return matches ? "dark" : "light";
}
