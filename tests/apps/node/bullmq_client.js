// The client of the BullMQ test: it puts work in, waits for what comes of it, and prints that as JSON.
"use strict";

const { FlowProducer, Queue, QueueEvents } = require("bullmq");
const { connect, until } = require("./connect");

const WAIT_MS = 40_000;
const JOBS = Number(process.argv[2]);

async function main() {
  const queue = new Queue("paint", { connection: connect() });
  const events = new QueueEvents("paint", { connection: connect() });
  const flows = new FlowProducer({ connection: connect() });
  await events.waitUntilReady();
  const result = (job) => job.waitUntilFinished(events, WAIT_MS);

  const seenProgress = new Promise((resolve) => events.once("progress", ({ data }) => resolve(data)));
  const due = Date.now() + 1000;
  const delayed = await queue.add("later", { due }, { delay: 1000 });
  const half = JOBS / 2;
  const square = (number) => ({ name: "square", data: { number }, opts: { priority: number % 3 } });
  const squares = await queue.addBulk([...Array(half).keys()].map(square));
  for (let number = half; number < JOBS; number++) {
    squares.push(await queue.add("square", { number }, { lifo: number % 2 === 0 }));
  }
  const retry = { attempts: 4, backoff: { type: "exponential", delay: 20 } };
  const again = await queue.add("failAtFirst", { name: "once" }, retry);
  const failed = await queue.add("fail", { name: "soup" }, { attempts: 3 });
  const told = await queue.add("progress", {});
  const flow = await flows.add({
    name: "sum",
    queueName: "paint",
    children: [1000, 1001].map((number) => ({ name: "square", data: { number }, queueName: "paint" })),
  });
  const once = [];
  for (let copy = 0; copy < 3; copy++) {
    once.push(await queue.add("square", { number: -1 }, { delay: 3_600_000, deduplication: { id: "only" } }));
  }
  await queue.upsertJobScheduler("ticker", { every: 100, limit: 3 }, { name: "tick" });

  const report = {
    squares: await Promise.all(squares.map(result)),
    again: await result(again),
    failed: await result(failed).catch((error) => error.message),
    delayed: await result(delayed),
    told: await result(told),
    progress: await seenProgress,
    log: (await queue.getJobLogs(told.id)).logs,
    flow: await result(flow.job),
    once: new Set(once.map((job) => job.id)).size,
  };
  const redis = connect();
  await until("the scheduler has come to its end", async () => Number(await redis.get("ticks")) === 3);
  report.attempts = (await queue.getJob(again.id)).attemptsMade;
  // The last tick is counted before it is finished.
  await until("nothing is active", async () => (await queue.getActiveCount()) === 0);
  report.counts = await queue.getJobCounts("wait", "paused", "prioritized", "active", "delayed", "failed");
  report.completed = await queue.getCompletedCount();
  await queue.pause();
  const kept = await queue.add("square", { number: -2 });
  report.paused = [await queue.isPaused(), await kept.getState()];
  await kept.remove();
  report.still = await once[0].getState();
  report.cleaned = (await queue.clean(0, 0, "completed")).length;
  await queue.obliterate();
  report.left = (await redis.keys("bull:paint:*")).filter((key) => !key.endsWith(":stalled-check")).sort();
  await Promise.all([queue.close(), events.close(), flows.close(), redis.quit()]);
  console.log(JSON.stringify(report));
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
