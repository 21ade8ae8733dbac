// Cluster clients of one node that has all slots: ioredis's with the word "ioredis", else node-redis's.
"use strict";

const assert = require("node:assert/strict");
const { until } = require("./connect");
const run = require("./steps");

const port = Number(process.env.PORT);

/** The two clients by the calls that the steps make. */
const clients = {
  async ioredis() {
    const { Cluster } = require("ioredis");
    const nodes = [{ host: "127.0.0.1", port }];
    const cluster = new Cluster(nodes);
    const subscriber = new Cluster(nodes, { shardedSubscribers: true });
    return {
      send: (key, ...words) => cluster.call(...words),
      nodes: () => cluster.nodes("master").length,
      transaction: async (key) => {
        const replies = await cluster.multi().set(key, 1).incr(key).get(key).exec();
        return replies.map(([, reply]) => reply);
      },
      listen: async (channel, heard) => {
        subscriber.on("smessage", (from, text) => heard.push([from, text]));
        await subscriber.ssubscribe(channel);
      },
      publish: (channel, text) => cluster.spublish(channel, text),
      close: async () => {
        cluster.disconnect();
        subscriber.disconnect();
      },
    };
  },

  async "node-redis"() {
    const { createCluster } = require("redis");
    const cluster = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }] });
    cluster.on("error", (error) => console.error(error));
    await cluster.connect();
    return {
      send: (key, ...words) => cluster.sendCommand(key, false, words.map(String)),
      nodes: () => cluster.masters.length,
      transaction: (key) => cluster.multi().set(key, 1).incr(key).get(key).exec(),
      listen: (channel, heard) => cluster.sSubscribe(channel, (text, from) => heard.push([from, text])),
      publish: (channel, text) => cluster.sPublish(channel, text),
      close: () => cluster.destroy(),
    };
  },
};

let client;

run(
  {
    async slots() {
      client = await clients[process.env.CLIENT]();
      for (let number = 0; number < 50; number++) {
        assert.equal(await client.send(`key:${number}`, "SET", `key:${number}`, number), "OK");
      }
      assert.equal(await client.send("key:7", "GET", "key:7"), "7");
      assert.equal(client.nodes(), 1);
      assert.equal(await client.send("a", "CLUSTER", "KEYSLOT", "{user:7}name"), 2780);
    },

    async keys_together() {
      await client.send("{u}a", "MSET", "{u}a", 1, "{u}b", 2);
      assert.deepEqual(await client.send("{u}a", "MGET", "{u}a", "{u}b"), ["1", "2"]);
      await assert.rejects(client.send("a", "MGET", "a", "b"), /CROSSSLOT Keys in request/);
      assert.equal(await client.send("{u}a", "EVAL", "return #KEYS", 2, "{u}a", "{u}b"), 2);
    },

    async transactions() {
      assert.deepEqual((await client.transaction("{u}n")).map(String), ["OK", "2", "2"]);
    },

    async shard_channels() {
      const heard = [];
      await client.listen("news", heard);
      await until("a message", async () => (await client.publish("news", "hello")) > 0 && heard.length > 0);
      assert.deepEqual(heard[0], ["news", "hello"]);
    },
  },
  () => client.close(),
);
