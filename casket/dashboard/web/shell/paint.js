// Colours as the system wants them now.

import { computed, signal } from "@preact/signals";

import { drawn, keysByAge } from "casket/model/listing";
import { Colours } from "casket/shell/colours";

const darkness = matchMedia("(prefers-color-scheme: dark)");
const book = new Colours();

/** "dark" or "light", as the system says now. */
export const scheme = signal(nameOf(darkness));
darkness.addEventListener("change", (event) => (scheme.value = nameOf(event)));

/** Whether fingers point rather than a mouse. */
export const isCoarse = matchMedia("(pointer: coarse)").matches;

/** The colours of charts beside their curves. */
export const colours = computed(() => {
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

/** Returns the colour of a session or group. */
export function colourOf(key) {
  return assigned.value.of(key, scheme.value);
}

function nameOf({ matches }) {
  return matches ? "dark" : "light";
}
