import { serve } from '../contract/serve.ts'
import { tuning } from './tuning.ts'

export const call = (): never => serve(tuning)
