// A number made from a text, such as for the color of a session.

/** Returns a number that follows from a text alone: FNV-1a of its UTF-16 units, 32 bits. */
export function hashOf(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
