import { bridgeScenarios } from './bridge-scenarios.ts'
import { contractScenarios, loopbackScenarios } from './contract-scenarios.ts'
import { ipamScenarios } from './ipam-scenarios.ts'
import { ptpScenarios } from './ptp-scenarios.ts'
import type { Scenario } from './scenario.ts'

export const scenarios: readonly Scenario[] = [
  ...bridgeScenarios,
  ...ptpScenarios,
  ...ipamScenarios,
  ...loopbackScenarios,
  ...contractScenarios,
]
