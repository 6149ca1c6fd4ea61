// Colors as the system wants them now.

import { computed, effect, signal } from "@preact/signals";

import { drawn } from "casket/model/listing";
import { fields, state, update } from "casket/model/view";
import { bare, chosenIn, paletteOf, repeatsOf, slotOf } from "casket/shell/colors";

const darkness = matchMedia("(prefers-color-scheme: dark)");
/** Resolves colors of the stylesheet. */
const probe = document.createElement("i");
const KEPT = "casket scheme";
const KEPT_COLORS = "casket colors";
const inAddress = fields("colors");
/** The colors chosen in this browser, as an address has them. */
const inBrowser = signal(keptColors());

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

const chosen = computed(
  () => new Map([...chosenIn(inBrowser.value), ...chosenIn(inAddress.value.colors)]),
);
const repeats = computed(() => {
  const bestFirst = [...drawn.value.parts].sort((a, b) => Number(b.isBest ?? 0) - Number(a.isBest ?? 0));
  return repeatsAmong(bestFirst.map(({ key }) => key));
});

/** Returns the color of a session or group. */
export function colorOf(key) {
  return paletteOf(scheme.value)[slotOf(key, chosen.value)];
}

/** Returns how often the color of each of some keys comes before it among them. */
export function repeatsAmong(keys) {
  return repeatsOf(keys, chosen.value);
}

/** Returns how many that are drawn, too, have the color of a session or group before it. */
export function repeatOf(key) {
  return repeats.value.get(key) ?? 0;
}

/** Gives a session or group a color for good; null: the one that follows from its id. */
export function chooseColor(key, slot) {
  const isOther = (each) => bare(each.replace(/^\d+~/, "")) !== bare(key);
  const now = slot === null ? [] : [`${slot}~${key}`];
  inBrowser.value = [...inBrowser.value.filter(isOther), ...now];
  store(KEPT_COLORS, JSON.stringify(inBrowser.value));
  update({ colors: [...state.peek().colors.filter(isOther), ...now] });
}

/** Chooses "dark", "light", or "" for the system's; this browser keeps it. */
export function chooseScheme(name) {
  chosenScheme.value = name;
  store(KEPT, name);
}

function keptScheme() {
  const name = stored(KEPT);
  return ["dark", "light"].includes(name) ? name : "";
}

/** @returns {string[]} */
function keptColors() {
  try {
    return JSON.parse(stored(KEPT_COLORS) || "[]").map(String);
  } catch {
    return [];
  }
}

function stored(name) {
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}

function store(name, text) {
  try {
    localStorage.setItem(name, text);
  } catch {
    // Where nothing can be kept, it holds until the page is left.
  }
}

function nameOf({ matches }) {
  return matches ? "dark" : "light";
}
