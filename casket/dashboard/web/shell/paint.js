// Colors as the system wants them now.

import { computed, effect, signal } from "@preact/signals";

import { drawn } from "casket/model/listing";
import { data } from "casket/model/page";
import { fields, update } from "casket/model/view";
import { Colors } from "casket/shell/colors";

const darkness = matchMedia("(prefers-color-scheme: dark)");
const book = new Colors();
/** Resolves colors of the stylesheet. */
const probe = document.createElement("i");
const KEPT = "casket scheme";
const kept = fields("selected", "pinned", "colors");

const ofSystem = signal(nameOf(darkness));
darkness.addEventListener("change", (event) => (ofSystem.value = nameOf(event)));

/** "dark" or "light" if chosen by the user; otherwise the system decides. */
export const chosenScheme = signal(keptScheme());
effect(() => {
  document.documentElement.dataset.scheme = chosenScheme.value;
});

/** "dark" or "light", as it is now. */
export const scheme = computed(() => chosenScheme.value || ofSystem.value);

/** Whether fingers point rather than a mouse. */
export const isCoarse = matchMedia("(pointer: coarse)").matches;

/** The colors of charts beside their curves. */
export const colors = computed(() => {
  scheme.value; // the stylesheet follows it
  const [text, grid, ground] = ["--muted", "--grid-line", "--surface"].map(resolved);
  return { text, grid, ground, font: "system-ui, sans-serif" };
});

/** Returns the color that a name of the stylesheet stands for now. */
export function resolved(name) {
  document.documentElement.append(probe);
  probe.style.color = `var(${name})`;
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

const assigned = computed(() => {
  book.remember(kept.peek().colors);
  book.assign(drawn.value.parts.map((part) => part.key));
  return book;
});

// Who opens the address of chosen sessions sees them in the same colors.
effect(() => {
  assigned.value;
  const { selected, pinned, colors: before } = kept.value;
  const displaced = book.displaced([...new Set([...selected, ...pinned])]);
  if (displaced.join() !== before.join() && data.rows.peek().length) update({ colors: displaced });
});

/** Returns the color of a session or group. */
export function colorOf(key) {
  return assigned.value.of(key, scheme.value);
}

/** Chooses "dark", "light", or "" for the system's; this browser keeps it. */
export function chooseScheme(name) {
  chosenScheme.value = name;
  try {
    localStorage.setItem(KEPT, name);
  } catch {
    // Where nothing can be kept, it holds until the page is left.
  }
}

function keptScheme() {
  try {
    const name = localStorage.getItem(KEPT) ?? "";
    return ["dark", "light"].includes(name) ? name : "";
  } catch {
    return "";
  }
}

function nameOf({ matches }) {
  return matches ? "dark" : "light";
}
