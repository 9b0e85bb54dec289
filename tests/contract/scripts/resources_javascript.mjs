// Models, deployments, trainings and collections with the JavaScript client. The last line is the result.

import { createRequire } from "node:module";

const Replicate = createRequire(`${process.cwd()}/`)("replicate");
const replicate = new Replicate({ auth: process.env.REPLICATE_API_TOKEN, baseUrl: process.env.API_URL });

const idOf = ({ owner, name }) => `${owner}/${name}`;

async function all(list) {
  const items = [];
  for await (const page of replicate.paginate(list)) items.push(...page);
  return items;
}

async function refused(call) {
  try {
    await call();
  } catch (error) {
    // The message ends with the body as it came.
    const problem = JSON.parse(error.message.match(/\{.*\}/s)[0]);
    return { status: error.response.status, detail: problem.detail };
  }
  throw new Error("It should have been refused.");
}

const actions = {
  // This client cannot delete a model.
  async models({ owner, name }) {
    const created = await replicate.models.create(owner, name, { visibility: "private", hardware: "cpu", description: "Mine" });
    const listed = (await all(replicate.models.list)).map(idOf);
    const found = (await replicate.models.search(name)).results.map(idOf);
    const deleted = await replicate.request(`/models/${owner}/${name}`, { method: "DELETE" });
    return {
      created: [idOf(created), created.visibility, created.description],
      listed: listed.includes(idOf(created)),
      found: found.includes(idOf(created)),
      deleted: deleted.status === 204,
      after: await refused(() => replicate.models.get(owner, name)),
    };
  },

  bad_hardware: ({ owner, name }) =>
    refused(() => replicate.models.create(owner, name, { visibility: "private", hardware: "abacus" })),

  async deployments({ owner, name, model, version, input }) {
    const created = await replicate.deployments.create({
      name, model, version, hardware: "cpu", min_instances: 0, max_instances: 1,
    });
    const prediction = await replicate.deployments.predictions.create(owner, name, { input });
    const ended = await replicate.wait(prediction, { interval: 100 });
    const updated = await replicate.deployments.update(owner, name, { max_instances: 2 });
    const release = created.current_release;
    return {
      created: [idOf(created), release.number, release.model],
      creator: release.created_by.username,
      listed: (await all(replicate.deployments.list)).some((deployment) => deployment.name === name),
      output: ended.output,
      updated: [updated.current_release.number, updated.current_release.configuration.max_instances],
      deleted: await refused(() => replicate.deployments.delete(owner, name)),
    };
  },

  async trainings({ model, version, destination }) {
    const train = (to) => replicate.trainings.create(...model.split("/"), version, { destination: to, input: {} });
    return {
      untrainable: await refused(() => train(destination)),
      nowhere: await refused(() => train("nobody/nothing")),
      listed: (await all(replicate.trainings.list)).map((training) => training.id),
      got: await refused(() => replicate.trainings.get("none")),
      canceled: await refused(() => replicate.trainings.cancel("none")),
    };
  },

  create: ({ version, input }) => refused(() => replicate.predictions.create({ version, input })),

  upload: ({ size }) => refused(() => replicate.files.create(Buffer.alloc(size))),

  find: ({ id }) => refused(() => replicate.predictions.get(id)),

  async collections({ slug }) {
    const got = await replicate.collections.get(slug);
    return {
      listed: (await replicate.collections.list()).results.some((collection) => collection.slug === slug),
      got: [got.name, got.description],
      models: got.models.map(idOf),
    };
  },
};

const [name, argument] = process.argv.slice(2);
console.log(JSON.stringify((await actions[name](JSON.parse(argument))) ?? null));
