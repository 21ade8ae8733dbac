// A program's day with ioredis: pipelines, transactions, scripts, pub/sub, streams, blocking calls.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { connect, until } = require("./connect");
const run = require("./steps");

const client = connect({ connectionName: "day", enableAutoPipelining: true });
const other = connect({ db: 1 });

run(
  {
    async values() {
      assert.equal(await client.set("s", "v", "EX", 100), "OK");
      assert.deepEqual(await client.getBuffer("s"), Buffer.from("v"));
      assert.equal(await client.hset("h", { one: 1, two: "zwei", three: "drei" }), 3);
      assert.deepEqual(await client.hgetall("h"), { one: "1", two: "zwei", three: "drei" });
      assert.equal(await client.zadd("z", 1, "a", 2.5, "b"), 2);
      assert.deepEqual(await client.zrange("z", 0, -1, "WITHSCORES"), ["a", "1", "b", "2.5"]);
      await assert.rejects(client.lpush("s", "x"), /^ReplyError: WRONGTYPE Operation against a key/);
      const binary = Buffer.from([...Array(256).keys()]);
      await client.set(binary, binary);
      assert.deepEqual(await client.getBuffer(binary), binary);
      assert.match(await client.client("LIST"), /name=day/);
    },

    async pipelines() {
      const pipeline = client.pipeline();
      for (let number = 0; number < 500; number++) pipeline.rpush("l", number);
      const replies = await pipeline.incr("l").llen("l").exec();
      assert.deepEqual(
        replies.slice(0, 500).map(([, length]) => length),
        [...Array(500).keys()].map((number) => number + 1),
      );
      assert.match(replies[500][0].message, /^WRONGTYPE/);
      assert.deepEqual(replies[501], [null, 500]);
      // Without being asked: what is sent in one turn of the loop goes as one pipeline.
      const counts = await Promise.all(Array.from({ length: 200 }, () => client.incr("n")));
      assert.equal(Math.max(...counts), 200);
    },

    async transactions() {
      const replies = await client.multi().set("t", 1).incr("t").lpop("t").get("t").exec();
      assert.match(replies[2][0].message, /^WRONGTYPE/);
      assert.deepEqual([0, 1, 3].map((at) => replies[at]), [[null, "OK"], [null, 2], [null, "2"]]);
      const alone = connect();
      await alone.watch("t");
      await client.set("t", "changed");
      assert.equal(await alone.multi().set("t", "lost").exec(), null);
      assert.equal(await client.get("t"), "changed");
      await assert.rejects(alone.multi().set("t").exec(), /EXECABORT Transaction discarded/);
      await alone.quit();
    },

    async scripts() {
      client.defineCommand("take", {
        numberOfKeys: 1,
        lua: `local left = redis.call('DECRBY', KEYS[1], ARGV[1])
              if left < 0 then return redis.error_reply('SOLD out at ' .. left) end
              return {left, redis.call('TYPE', KEYS[1]).ok, cjson.encode({left = left})}`,
      });
      await client.set("stock", 10);
      assert.deepEqual(await client.take("stock", 3), [7, "string", '{"left":7}']);
      await client.script("FLUSH"); // EVALSHA, then EVAL
      assert.deepEqual(await client.take("stock", 7), [0, "string", '{"left":0}']);
      await assert.rejects(client.take("stock", 1), /SOLD out at -1/);
      const replies = await client.pipeline().set("stock", 5).take("stock", 1).exec();
      assert.deepEqual(replies[1], [null, [4, "string", '{"left":4}']]);
    },

    async messages() {
      const subscriber = connect();
      assert.equal(await subscriber.subscribe("news", "sport"), 2);
      assert.equal(await subscriber.psubscribe("n*"), 3);
      const heard = [];
      subscriber.on("message", (channel, text) => heard.push([channel, text]));
      subscriber.on("pmessageBuffer", (pattern, channel, text) => heard.push([pattern, String(channel), text]));
      assert.equal(await client.publish("news", "one"), 2);
      assert.equal(await client.publish("sport", "two"), 1);
      await until("all messages came", () => heard.length === 3);
      assert.deepEqual(heard, [["news", "one"], ["n*", "news", Buffer.from("one")], ["sport", "two"]]);
      await subscriber.unsubscribe("news", "sport");
      await subscriber.punsubscribe("n*");
      assert.equal(await subscriber.get("s"), "v");
      await subscriber.quit();
    },

    async streams() {
      const ids = [];
      for (let number = 0; number < 3; number++) ids.push(await client.xadd("x", "*", "number", number));
      assert.deepEqual(await client.xrange("x", "-", "+", "COUNT", 1), [[ids[0], ["number", "0"]]]);
      await client.xgroup("CREATE", "x", "g", "0");
      const read = (who, ...more) => client.xreadgroup("GROUP", "g", who, "COUNT", 2, "STREAMS", "x", ...more);
      assert.deepEqual((await read("ann", ">"))[0][1].map(([id]) => id), ids.slice(0, 2));
      assert.equal(await client.xack("x", "g", ids[0]), 1);
      assert.deepEqual((await client.xpending("x", "g"))[3], [["ann", "1"]]);
      assert.deepEqual((await client.xautoclaim("x", "g", "bob", 0, "0"))[1], [[ids[1], ["number", "1"]]]);
      const waiting = connect();
      const reply = waiting.xread("BLOCK", 20_000, "STREAMS", "x", "$");
      await until("it is blocked", async () => /blocked_clients:1/.test(await client.info("clients")));
      const last = await client.xadd("x", "*", "number", 3);
      assert.deepEqual(await reply, [["x", [[last, ["number", "3"]]]]]);
      await waiting.quit();
    },

    async blocking() {
      const waiting = connect();
      const popped = waiting.blpop("first", "second", 20);
      await until("it is blocked", async () => /blocked_clients:1/.test(await client.info("clients")));
      await client.rpush("second", "element");
      assert.deepEqual(await popped, ["second", "element"]);
      assert.equal(await waiting.blmove("no", "where", "LEFT", "RIGHT", 0.01), null);
      await waiting.quit();
    },

    async scans() {
      await other.mset(Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`key:${at}`, at])));
      const found = new Set();
      const stream = other.scanStream({ match: "key:*", count: 50 });
      stream.on("data", (keys) => keys.forEach((key) => found.add(key)));
      await once(stream, "end");
      assert.equal(found.size, 300);
      assert.equal(await other.dbsize(), 300);
    },

    async monitors() {
      const monitor = await other.monitor(); // on a connection of its own
      const seen = [];
      monitor.on("monitor", (time, args, source, database) => seen.push([args, database]));
      await other.echo("seen");
      await until("the command is told", () => seen.length > 0);
      assert.deepEqual(seen, [[["echo", "seen"], "1"]]);
      monitor.disconnect();
    },

    async connections() {
      const named = connect({ name: "again" });
      const before = await named.client("ID");
      const again = once(named, "ready");
      assert.equal(await client.client("KILL", "ID", before), 1);
      await again;
      assert.notEqual(await named.client("ID"), before);
      assert.equal(await named.get("s"), "v");
      await named.quit();
    },
  },
  () => Promise.all([client.quit(), other.quit()]),
);
