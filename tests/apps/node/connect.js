// What the programs for Node.js share: where the server is (PORT or SOCKET), and waiting for something.
"use strict";

const { setTimeout: sleep } = require("node:timers/promises");

/** An ioredis client, as BullMQ wants one. */
function connect(options = {}) {
  const Redis = require("ioredis");
  const where = process.env.SOCKET
    ? { path: process.env.SOCKET }
    : { host: "127.0.0.1", port: Number(process.env.PORT) };
  return new Redis({ ...where, maxRetriesPerRequest: null, ...options });
}

/** Return as soon as `condition()` holds; an error when it does not in time. */
async function until(what, condition, milliseconds = 30_000) {
  const deadline = Date.now() + milliseconds;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${milliseconds} ms: ${what}`);
    await sleep(20);
  }
}

module.exports = { connect, until };
