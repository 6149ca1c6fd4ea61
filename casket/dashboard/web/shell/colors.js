// The color of a session follows from its id, of a group from its values, and from nothing else.

import { hashOf } from "casket/model/hash";

// Ten that can be told apart however they are seen, then others as far from all before them as there
// is room: at full protanopia, deuteranopia or tritanopia two are at least 0.05 apart in OKLab.
const LIGHT = [
  "#6370e2", "#a94406", "#3d6e5c", "#df6794", "#a2950f", "#7b3c9d", "#11a0d3", "#830103",
  "#59006f", "#3a424a", "#5a00dc", "#965aaa", "#d21e78", "#aa6e28", "#6e32fa", "#8c1e6e",
  "#3c00aa", "#8c82fa", "#be8264", "#784632", "#8246c8", "#5a9696", "#64288c", "#a06eb4",
];
const DARK = [
  "#4c7be9", "#fc8b11", "#00c678", "#f0abc4", "#f0e968", "#ad97fd", "#b3eeff", "#cc4b15",
  "#ae4eab", "#8d8882", "#c88cbe", "#50d2fa", "#bedc96", "#468246", "#e600dc", "#dcfac8",
  "#dcd228", "#c864b4", "#aa8c50", "#78f0d2", "#6eaa8c", "#96d26e", "#e66e14", "#966e8c",
];

/** Returns all colors as CSS. */
export function paletteOf(scheme) {
  return scheme === "dark" ? DARK : LIGHT;
}

/** Returns the colors chosen in an address, as `3~key`, by the keys without their files. */
export function chosenIn(list) {
  const pairs = list.map((each) => /^(\d+)~(.+)$/.exec(each)).filter(Boolean);
  const slots = pairs.map(([, slot, key]) => [bare(key), Number(slot)]);
  return new Map(slots.filter(([, slot]) => slot < LIGHT.length));
}

/** Returns the slot of a session or group in the palette. */
export function slotOf(key, chosen) {
  return chosen.get(bare(key)) ?? hashOf(bare(key)) % LIGHT.length;
}

/**
 * Returns, of keys that are drawn together, how many before each have its color, by their ids.
 *
 * They keep their color, and differ in their dashes.
 */
export function repeatsOf(keys, chosen) {
  const counts = new Map();
  const sorted = [...keys].sort((a, b) => (bare(a) < bare(b) ? -1 : 1));
  return new Map(
    sorted.map((key) => {
      const slot = slotOf(key, chosen);
      counts.set(slot, (counts.get(slot) ?? -1) + 1);
      return [key, counts.get(slot)];
    }),
  );
}

/** Returns a key without the index of the file before an id. */
export function bare(key) {
  return key.replace(/^\d+\./, "");
}
