import "./modules.mjs";

import assert from "node:assert/strict";
import test from "node:test";

const { fittingNames, meantName, offeredNames } = await import("casket/where/names");

const row = {
  params: { lr: 0.1, seed: 3 }, config: { units: 1 }, meta: { host: "a", language: "en" },
  last: { loss: 1, val_loss: 2, l2: 3 }, best: { loss: 1 },
};

test("names that the table shows are offered first, then params and metrics, and meta last", () => {
  const names = offeredNames([row], ["status", "last.val_loss"]);
  const params = ["params.lr", "params.seed"];
  assert.deepEqual(names.slice(0, 4), ["status", "val_loss", ...params]);
  assert.deepEqual(names.slice(-3), ["config.units", "meta.host", "meta.language"]);
  assert.ok(names.indexOf("l2") < names.indexOf("best.loss"));
});

test("of the names that fit those that begin so come first, with or without their group", () => {
  const names = offeredNames([row], ["status", "params.lr"]);
  assert.deepEqual(fittingNames(names, "l").slice(0, 4), ["loss", "l2", "params.lr", "best.loss"]);
  assert.deepEqual(fittingNames(names, "params.lr"), []);
});

test("the name that was meant is one that is written nearly so, or lacks its group", () => {
  const names = offeredNames([row], []);
  assert.equal(meantName(names, "val_lss"), "val_loss");
  assert.equal(meantName(names, "param.lr"), "params.lr");
  assert.equal(meantName(names, "lr"), "params.lr");
  assert.equal(meantName(names, "Seed"), "params.seed");
  assert.equal(meantName(names, "momentum"), undefined);
});
