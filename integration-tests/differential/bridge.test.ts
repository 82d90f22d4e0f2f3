import { test } from 'vitest'
import { bridgeScenarios } from './bridge-scenarios.ts'
import { judge } from './judge.ts'

test.for(bridgeScenarios)('$name', judge)
