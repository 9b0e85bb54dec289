// What a user of the JavaScript client does. The last line is the result.

import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";

const require = createRequire(`${process.cwd()}/`);
const Replicate = require("replicate");
const { validateWebhook } = Replicate;
const replicate = new Replicate({ auth: process.env.REPLICATE_API_TOKEN, baseUrl: process.env.API_URL });

const actions = {
  run: ({ model, input }) => replicate.run(model, { input }),

  poll: ({ model, input }) => replicate.run(model, { input, wait: { mode: "poll", interval: 100 } }),

  async stream({ model, input }) {
    const events = [];
    for await (const { event, data } of replicate.stream(model, { input })) events.push([event, data]);
    return events;
  },

  async withFile({ model, path }) {
    return replicate.run(model, { input: { file: new Blob([await readFile(path)]) } });
  },

  async files({ model, input }) {
    const outputs = await replicate.run(model, { input });
    const read = async (file) => [file.constructor.name, Buffer.from(await (await file.blob()).arrayBuffer()).toString()];
    return Promise.all(outputs.files.map(read));
  },

  async cancel({ version, input }) {
    const created = await replicate.predictions.create({ version, input });
    const canceled = await replicate.predictions.cancel(created.id);
    const ended = await replicate.wait(canceled, { interval: 100 });
    return [created.status, ended.status];
  },

  async lookAround({ model }) {
    const [owner, name] = model.split("/");
    const pages = [];
    for await (const page of replicate.paginate(replicate.predictions.list)) pages.push(page.length);
    const file = await replicate.files.create(Buffer.from("hello"), { k: "v" });
    await replicate.files.delete(file.id);
    return {
      model: (await replicate.models.get(owner, name)).name,
      versions: (await replicate.models.versions.list(owner, name)).results.length,
      account: (await replicate.accounts.current()).username,
      hardware: (await replicate.hardware.list()).map((item) => item.sku),
      metadata: file.metadata,
      pages,
    };
  },

  async fail({ model, input }) {
    try {
      await replicate.run(model, { input });
    } catch (error) {
      return error.message;
    }
    throw new Error("It should have failed.");
  },

  validate: ({ id, timestamp, signature, body, secret }) => validateWebhook({ id, timestamp, signature, body, secret }),
};

const [name, argument] = process.argv.slice(2);
console.log(JSON.stringify((await actions[name](JSON.parse(argument))) ?? null));
