// Run named steps in their order and print the name of each that passed; the first that fails ends the program.
"use strict";

module.exports = async function run(steps, finish) {
  setTimeout(() => {
    console.error("the program hangs");
    process.exit(1);
  }, 35_000);
  try {
    for (const [name, step] of Object.entries(steps)) {
      await step();
      console.log(name);
    }
    await finish();
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
};
