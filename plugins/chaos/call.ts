import { serve } from '../contract/serve.ts'
import { chaos } from './chaos.ts'

export const call = (): never => serve(chaos)
