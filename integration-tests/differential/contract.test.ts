import { test } from 'vitest'
import { contractScenarios, loopbackScenarios } from './contract-scenarios.ts'
import { judgeInSharedHosts } from './judge.ts'

test.for([...loopbackScenarios, ...contractScenarios])('$name', judgeInSharedHosts())
