// Says of each expression in a file whether its row meets it, or that it is refused.

import "./modules.mjs";

import { readFileSync } from "node:fs";

const { Mistake, compile } = await import("casket/where/where");
const { row, expressions } = JSON.parse(readFileSync(process.argv[2]));

function answer(expression) {
  try {
    return compile(expression)(row);
  } catch (error) {
    if (error instanceof Mistake) return "refused";
    throw error;
  }
}

console.log(JSON.stringify(expressions.map(answer)));
