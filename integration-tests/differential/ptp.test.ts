import { test } from 'vitest'
import { judge } from './judge.ts'
import { ptpScenarios } from './ptp-scenarios.ts'

test.for(ptpScenarios)('$name', judge)
