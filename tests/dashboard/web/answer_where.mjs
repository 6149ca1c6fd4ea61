// Answers for each expression in a file whether its row meets it, or where and why it is refused.

import "./modules.mjs";

import { readFileSync } from "node:fs";

const { Mistake, compile } = await import("casket/where/where");
const { row, expressions } = JSON.parse(readFileSync(process.argv[2]));

function answer(expression) {
  try {
    return [compile(expression)(row)];
  } catch (error) {
    if (!(error instanceof Mistake)) throw error;
    return [Array.from(expression.slice(0, error.position)).length, error.message];
  }
}

console.log(JSON.stringify(expressions.map(answer)));
