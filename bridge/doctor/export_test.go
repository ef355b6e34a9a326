package doctor

// AgentOptions is for tests, which compare it with what the agent writes.
var AgentOptions = agentOptions
