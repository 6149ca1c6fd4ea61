// The color of a session follows from its id, of a group from its values, and from nothing else.

import { hashOf } from "casket/model/hash";

// Ten that can be told apart however they are seen, then others as far from all before them as there
// is room: seen in full, two are at least 0.089 apart in OKLab; at full protanopia, deuteranopia or
// tritanopia, 0.035.
const LIGHT = [
  "#6370e2", "#a94406", "#3d6e5c", "#df6794", "#a2950f", "#7b3c9d", "#11a0d3", "#830103",
  "#59006f", "#3a424a", "#d860f0", "#009000", "#b40084", "#9c84b4", "#003cc0", "#e4183c",
  "#c0846c", "#843c60", "#3c6c9c", "#6c4800", "#9c60fc", "#009c90", "#f06c48", "#b460b4",
];
const DARK = [
  "#4c7be9", "#fc8b11", "#00c678", "#f0abc4", "#f0e968", "#ad97fd", "#b3eeff", "#cc4b15",
  "#ae4eab", "#8d8882", "#fc3c84", "#608424", "#00a8c0", "#90e400", "#fc6cf0", "#3cfcd8",
  "#b4a854", "#fccc9c", "#b460fc", "#84c0a8", "#00846c", "#90c0fc", "#c0789c", "#d8fccc",
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
 * Returns, of keys that are drawn together, how many before each have its color.
 *
 * They keep their color, and differ in their dashes.
 */
export function repeatsOf(keys, chosen) {
  const counts = new Map();
  return new Map(
    keys.map((key) => {
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
