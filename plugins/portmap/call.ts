import { serve } from '../contract/serve.ts'
import { portmap } from './portmap.ts'

export const call = (): never => serve(portmap)
