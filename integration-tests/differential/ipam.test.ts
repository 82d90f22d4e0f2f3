import { test } from 'vitest'
import { ipamScenarios } from './ipam-scenarios.ts'
import { judgeInSharedHosts } from './judge.ts'

test.for(ipamScenarios)('$name', judgeInSharedHosts())
