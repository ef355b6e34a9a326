// Reads a list of simulations as JSON, and writes for each "Allowed", "ImplicitlyDenied",
// "ExplicitlyDenied" or what is wrong with it.
import { runSimulation } from '@cloud-copilot/iam-simulate'

let text = ''
for await (const chunk of process.stdin) text += chunk
const results = []
for (const s of JSON.parse(text)) {
  const r = await runSimulation({ serviceControlPolicies: [], resourceControlPolicies: [], ...s }, {})
  const ignored = r.result?.ignoredContextKeys ?? []
  results.push(
    r.resultType === 'error' ? 'error: ' + JSON.stringify(r.errors)
      : ignored.length > 0 ? 'ignored: ' + ignored
      : r.overallResult)
}
process.stdout.write(JSON.stringify(results))
