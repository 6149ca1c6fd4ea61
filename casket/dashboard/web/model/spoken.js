// Names of sessions that people can say: two words that follow from the id.

const FIRST = (
  "able amber apt bold brave brief bright brisk calm clear clever coral cozy crisp deft eager early " +
  "even fair fast fine fleet fond frank free fresh gentle glad golden grand happy hardy honest jolly " +
  "keen kind lively loyal lucid lucky mellow merry mild modest neat noble patient plain proud quick " +
  "quiet rapid ready royal silver smart snug solid steady still sunny sure swift tidy true vivid warm " +
  "wild wise witty young zesty"
).split(" ");
const SECOND = (
  "ant badger bat bear beaver bee bison bream bull carp cat cod colt crab crane crow deer dingo dove " +
  "duck eagle eel elk falcon ferret finch fox frog goat goose gull hare hawk heron ibis jay koala lark " +
  "lion llama lynx marten mole moose mouse newt orca otter owl panda perch pike plover puma quail ram " +
  "raven robin salmon seal shrew snail stoat stork swan tern tiger toad trout whale wolf wren yak"
).split(" ");

/** Returns a number that follows from a text alone: FNV-1a of its UTF-16 units, 32 bits. */
export function hashOf(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Returns the two words of a session's id. */
export function spokenName(id) {
  const hash = hashOf(id);
  const [first, second] = [hash % FIRST.length, Math.floor(hash / FIRST.length) % SECOND.length];
  return `${FIRST[first]}-${SECOND[second]}`;
}
