// The worker of the BullMQ test: it runs until SIGTERM, and lets running jobs end.
//
// Every finished job leaves one line in the file that EFFECTS names, outside the server that the test judges, and
// counts itself in a hash inside it.
"use strict";

const fs = require("node:fs");
const { Worker, UnrecoverableError } = require("bullmq");
const { connect } = require("./connect");

const redis = connect();

async function leave(line) {
  fs.appendFileSync(process.env.EFFECTS, `${line}\n`);
  await redis.hincrby("effects", line, 1);
}

const jobs = {
  async square(job) {
    await leave(`square ${job.data.number}`);
    return job.data.number ** 2;
  },
  async failAtFirst(job) {
    const attempt = await redis.incr(`attempts:${job.data.name}`);
    if (attempt < 3) throw new Error(`attempt ${attempt} fails`);
    await leave(`retried ${job.data.name}`);
    return `attempt ${attempt}`;
  },
  async fail(job) {
    await leave(`failed ${job.data.name}`);
    throw new UnrecoverableError(`no such thing: ${job.data.name}`);
  },
  async later(job) {
    const line = Date.now() >= job.data.due ? "on time" : "too early";
    await leave(line);
    return line;
  },
  async progress(job) {
    await job.updateProgress({ percent: 50 });
    await job.log("half way");
    return "all of it";
  },
  async sum(job) {
    const parts = Object.values(await job.getChildrenValues());
    await leave("sum");
    return parts.reduce((left, right) => left + right, 0);
  },
  async tick() {
    await redis.incr("ticks");
  },
};

const worker = new Worker("paint", (job) => jobs[job.name](job), { connection: connect(), concurrency: 10 });
worker.on("error", (error) => console.error("error:", error));
process.on("SIGTERM", async () => {
  await worker.close();
  await redis.quit();
  console.log("closed");
  process.exit(0);
});
worker.waitUntilReady().then(() => console.log("ready"));
