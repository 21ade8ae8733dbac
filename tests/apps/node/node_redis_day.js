// A program's day with node-redis in RESP2 or RESP3 (PROTOCOL): pipelines, transactions, scripts, pub/sub, streams.
"use strict";

const assert = require("node:assert/strict");
const { createClient, createClientPool, defineScript, RESP_TYPES, WatchError } = require("redis");
const { until } = require("./connect");
const run = require("./steps");

const RESP = Number(process.env.PROTOCOL);
const socket = process.env.SOCKET
  ? { path: process.env.SOCKET }
  : { host: "127.0.0.1", port: Number(process.env.PORT) };
const scripts = {
  take: defineScript({
    NUMBER_OF_KEYS: 1,
    SCRIPT: `local left = redis.call('DECRBY', KEYS[1], ARGV[1])
             if left < 0 then return redis.error_reply('SOLD out at ' .. left) end
             return {left, redis.call('TYPE', KEYS[1]).ok, left == 0}`,
    parseCommand(parser, key, count) {
      parser.pushKey(key);
      parser.push(String(count));
    },
    transformReply: undefined,
  }),
};
const make = (options = {}) => createClient({ RESP, socket, scripts, unstableResp3: true, ...options });
const client = make({ name: "day" });
client.on("error", (error) => console.error(error));
const plain = (reply) => JSON.parse(JSON.stringify(reply)); // replies have no prototype
// The ids of what was read from streams; of RESP3 the library gives the map as it came.
const entries = (reply) =>
  RESP === 3
    ? Object.entries(reply).map(([name, messages]) => [name, messages.map(([id]) => id)])
    : reply.map(({ name, messages }) => [name, messages.map(({ id }) => id)]);

run(
  {
    async values() {
      await client.connect();
      assert.equal(await client.set("s", "v", { expiration: { type: "EX", value: 100 } }), "OK");
      assert.equal(await client.hSet("h", { one: 1, two: "zwei" }), 2);
      assert.deepEqual(plain(await client.hGetAll("h")), { one: "1", two: "zwei" });
      const scores = [{ score: 1, value: "a" }, { score: 2.5, value: "b" }, { score: Infinity, value: "c" }];
      assert.equal(await client.zAdd("z", scores), 3);
      assert.deepEqual(plain(await client.zRangeWithScores("z", 0, 1)), plain(scores.slice(0, 2)));
      assert.equal(await client.zScore("z", "c"), Infinity);
      assert.equal(await client.sAdd("set", ["x", "y"]), 2);
      assert.deepEqual((await client.sMembers("set")).sort(), ["x", "y"]);
      assert.deepEqual(await client.smIsMember("set", ["x", "z"]), [1, 0]);
      await assert.rejects(client.lPush("s", "x"), /WRONGTYPE Operation against a key/);
      const buffers = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
      assert.deepEqual(await buffers.get("s"), Buffer.from("v"));
      const info = await client.clientInfo();
      assert.deepEqual([info.name, info.resp, info.db], ["day", RESP, 0]);
    },

    async pipelines() {
      const lengths = await Promise.all([...Array(500).keys()].map((at) => client.rPush("l", String(at))));
      assert.deepEqual(lengths, [...Array(500).keys()].map((at) => at + 1));
      const replies = await client.multi().lLen("l").incr("n").execAsPipeline();
      assert.deepEqual(replies, [500, 1]);
    },

    async transactions() {
      assert.deepEqual(await client.multi().set("t", 1).incr("t").get("t").exec(), ["OK", 2, "2"]);
      const failure = await client.multi().set("t", 1).lPop("t").incr("t").exec().catch((error) => error);
      assert.deepEqual([failure.errorIndexes, failure.replies[2]], [[1], 2]);
      const alone = await make().connect();
      await alone.watch("t");
      await client.set("t", "changed");
      await assert.rejects(alone.multi().set("t", "lost").exec(), WatchError);
      assert.equal(await client.get("t"), "changed");
      await alone.close();
    },

    async scripts() {
      await client.set("stock", 10);
      assert.deepEqual(await client.take("stock", 3), [7, "string", null]);
      await client.scriptFlush(); // EVALSHA, then EVAL
      assert.deepEqual(await client.take("stock", 7), [0, "string", 1]);
      await assert.rejects(client.take("stock", 1), /SOLD out at -1/);
      assert.deepEqual(await client.multi().set("stock", 5).take("stock", 1).exec(), ["OK", [4, "string", null]]);
      const wide = "redis.setresp(3) return {double = 3.5}";
      assert.equal(Number(await client.eval(wide)), 3.5);
      const library = "#!lua name=shop\nredis.register_function('double', function(keys, args) return args[1] * 2 end)";
      assert.equal(await client.functionLoad(library), "shop");
      assert.equal(await client.fCall("double", { keys: [], arguments: ["21"] }), 42);
      await client.functionDelete("shop");
    },

    async messages() {
      const heard = [];
      const subscriber = RESP === 3 ? client : await make().connect();
      await subscriber.subscribe(["news", "sport"], (text, channel) => heard.push([channel, text]));
      await subscriber.pSubscribe("n*", (text, channel) => heard.push([channel, String(text)]), true);
      // With RESP3 the connection that listens goes on to send commands.
      if (RESP === 3) assert.equal(await subscriber.get("s"), "v");
      const sender = await make().connect();
      assert.deepEqual([await sender.publish("news", "one"), await sender.publish("sport", "two")], [2, 1]);
      await until("all messages came", () => heard.length === 3);
      assert.deepEqual(heard.map(String), ["news,one", "news,one", "sport,two"]);
      await subscriber.unsubscribe(["news", "sport"]);
      await subscriber.pUnsubscribe("n*");
      assert.equal(await sender.publish("news", "three"), 0);
      await sender.sSubscribe("shard", (text) => heard.push(text));
      assert.equal(await client.sPublish("shard", "four"), 1);
      await until("the message came", () => heard.at(-1) === "four");
      await sender.close();
      if (RESP === 2) await subscriber.close();
    },

    async streams() {
      const ids = [];
      for (let at = 0; at < 3; at++) ids.push(await client.xAdd("x", "*", { number: String(at) }));
      await client.xGroupCreate("x", "g", "0");
      const read = await client.xReadGroup("g", "ann", { key: "x", id: ">" }, { COUNT: 2 });
      assert.deepEqual(entries(read), [["x", ids.slice(0, 2)]]);
      const [{ id, message }] = await client.xRange("x", ids[1], "+", { COUNT: 1 });
      assert.deepEqual([id, plain(message)], [ids[1], { number: "1" }]);
      assert.equal(await client.xAck("x", "g", ids[0]), 1);
      const { pending, consumers } = await client.xPending("x", "g");
      assert.deepEqual([pending, plain(consumers)], [1, [{ name: "ann", deliveriesCounter: 1 }]]);
      const { messages: claimed } = await client.xAutoClaim("x", "g", "bob", 0, "0");
      assert.deepEqual(claimed.map(({ id }) => id), [ids[1]]);
      const groups = await client.xInfoGroups("x");
      assert.deepEqual([groups[0].name, groups[0].pending, groups[0]["entries-read"]], ["g", 1, 2]);
      const waiting = await make().connect();
      const reply = waiting.xRead({ key: "x", id: "$" }, { BLOCK: 20_000 });
      await until("it is blocked", async () => /blocked_clients:1/.test(await client.info("clients")));
      const last = await client.xAdd("x", "*", { number: "3" });
      assert.deepEqual(entries(await reply), [["x", [last]]]);
      await waiting.close();
    },

    async blocking() {
      const waiting = await make().connect();
      const popped = waiting.bzPopMin("ranks", 20);
      await until("it is blocked", async () => /blocked_clients:1/.test(await client.info("clients")));
      await client.zAdd("ranks", { score: 1.5, value: "a" });
      assert.deepEqual(plain(await popped), { key: "ranks", value: "a", score: 1.5 });
      assert.equal(await waiting.blPop("never", 0.01), null);
      await waiting.close();
    },

    async scans() {
      await client.select(1);
      await client.mSet([...Array(300).keys()].map((at) => [`key:${at}`, String(at)]));
      const found = new Set();
      for await (const keys of client.scanIterator({ MATCH: "key:*", COUNT: 50 })) keys.forEach((key) => found.add(key));
      assert.equal(found.size, 300);
      await client.select(0);
    },

    async pools() {
      const pool = await createClientPool({ RESP, socket }, { maximum: 4 }).connect();
      const counts = await Promise.all(Array.from({ length: 100 }, () => pool.incr("pooled")));
      assert.deepEqual(counts.sort((left, right) => left - right), [...Array(100).keys()].map((at) => at + 1));
      await pool.close();
    },

    async caches() {
      if (RESP === 2) return;
      const cached = await make({ clientSideCache: { ttl: 0, maxEntries: 100 } }).connect();
      await client.set("cached", "old");
      assert.deepEqual([await cached.get("cached"), await cached.get("cached")], ["old", "old"]);
      await client.set("cached", "new");
      await until("the client is told", async () => (await cached.get("cached")) === "new");
      await cached.close();
    },
  },
  () => client.close(),
);
