import { serve } from '../contract/serve.ts'
import { veth } from './veth.ts'

export const call = (): never => serve(veth)
