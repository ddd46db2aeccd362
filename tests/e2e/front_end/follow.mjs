// Runs the example of deploy/docs/front-end.md in node: node follow.mjs <example.mjs> <generation id>
// Prints each state as a line of JSON, and ends when the generation has ended.
const [example, generationId] = process.argv.slice(2)
const { follow } = await import(example)
const stop = follow(generationId, (state) => {
  console.log(JSON.stringify(state))
  if (['completed', 'partial', 'failed'].includes(state.status)) {
    stop()
    process.exit(0)
  }
}, 0.2)
