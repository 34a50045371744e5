import assert from "node:assert/strict";
import { test } from "node:test";
import { Transactions } from "../../../host/core/connection/transactions.ts";

test("remembers who sent a check for 10 s", () => {
  const transactions = new Transactions<string>();
  transactions.remember("a", "left", 1_000);
  transactions.remember("b", "right", 5_000);
  assert.equal(transactions.ownerOf("a", 10_999), "left");
  assert.equal(transactions.ownerOf("a", 11_000), undefined);
  assert.equal(transactions.ownerOf("b", 11_000), "right");
  assert.equal(transactions.ownerOf("c", 1_000), undefined);
});

test("forgets the oldest when a flood of checks is under way", () => {
  const transactions = new Transactions<number>();
  for (let i = 0; i < 70_000; i++) transactions.remember(String(i), i, 1_000);
  assert.equal(transactions.ownerOf("0", 1_000), undefined);
  assert.equal(transactions.ownerOf("69999", 1_000), 69_999);
  assert.equal(transactions.ownerOf(String(70_000 - 65_536), 1_000), 70_000 - 65_536);
  assert.equal(transactions.ownerOf(String(70_000 - 65_537), 1_000), undefined);
});
